"""Batches of a dataset, in order: plan, files, events and transform put together.

In: what a user gives as samples. Out: batches of numpy arrays, from this process or from workers,
each event once an epoch, and the ledger. Never: a feature computed again, a framework's tensor.
"""
