"""ONNX: a model that takes raw events as one graph (`export`), and runs anywhere (`runtime`).

This is the way of a PyTorch model to other engines: no maintained converter makes a SavedModel
of it beside today's TensorFlow.
"""
