"""Servers for trained models: self-contained archives, engines that serve them, a client.

Importing this package loads neither torch nor any server.
"""
