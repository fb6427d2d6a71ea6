"""ONNX: a model that takes raw events as one graph (`export`), and runs anywhere (`runtime`).

This is the way of a PyTorch model to other engines: no maintained converter from PyTorch to a
SavedModel shares an environment with today's TensorFlow.
"""
