"""The order of all events of an epoch: which entry ranges, for which rank and worker.

In: counts of events, seed, epoch. Out: chunks, batches, shares of ranks, positions to resume from.
Never: I/O, an import of any room but core.
"""
