"""The transform as a Keras layer, for SavedModels.

In: raw columns as dense tensors. Out: what the numpy reference gives, to float32 rounding, masks
exactly, inside the graph. Never: a parameter that is not in the reference.
"""
