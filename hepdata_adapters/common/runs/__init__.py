"""The folder that a training leaves behind, and what is made of it.

In: a config, a trained model's scores. Out: run folders, metrics, pictures, provenance, scores of
other files. Never: a framework; the model is asked through plain functions.
"""
