"""ROOT files as ``tf.data.Dataset``.

In: batches of numpy arrays. Out: the same as tensors, of known number and signature. Never: a
feature computed again.
"""
