"""Raw events outside a training: as clients send them, as files hold them, and back.

In: events by branch name, files for a trained model, outputs of a model. Out: columns, padded
inputs, scores in files, arrays back in raw units. Never: another transform than the trained one.
"""
