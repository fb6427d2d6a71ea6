"""Which events count, for what, and how much: layout, selection, split, labels, weights, classes.

In: columns and the config. Out: for each event its split, label and weight, and counts of classes.
Never: a look at the model, or at how the events are ordered.
"""
