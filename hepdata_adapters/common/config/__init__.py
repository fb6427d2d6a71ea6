"""What a user may say: samples, features, split, sampling, network and training.

In: YAML, dicts or Python objects, which are not trusted. Out: frozen models that are checked, all
problems in one error, in the words of the config. Never: opening a ROOT file, running text as code.
"""
