"""Representations inside exported graphs, each written once on the primitives of a backend."""
