"""The transform as ``nn.Module``, for exported models.

In: raw columns as dense tensors. Out: what the numpy reference gives, to float32 rounding, masks
exactly, in operations that torch.export and ONNX take. Never: a parameter that is not in the
reference.
"""
