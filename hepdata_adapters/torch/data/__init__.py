"""ROOT files as PyTorch datasets and loaders.

In: batches of numpy arrays. Out: tensors on the CPU, without a copy where memory allows it; states
that resume. Never: a feature computed again.
"""
