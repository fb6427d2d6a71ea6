"""Networks, Lightning modules and ``fit``.

In: batches of tensors, a run config. Out: a trained network in a run folder. Never: branch names in
the network.
"""
