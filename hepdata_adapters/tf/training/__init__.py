"""Keras networks, weighted losses and ``fit``.

In: a ``tf.data.Dataset``, a run config. Out: a trained network in a run folder. Never: branch names
in the network.
"""
