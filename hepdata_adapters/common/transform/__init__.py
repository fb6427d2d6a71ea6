"""From columns to what a model sees: the numpy reference that all backends equal.

In: columns, and specs as plain numbers. Out: ``(n, d)`` vectors, ``(n, k, f)`` sets, images, ragged
values, their masks and lengths, and counts for the ledger. Never: I/O, state, random numbers.
"""
