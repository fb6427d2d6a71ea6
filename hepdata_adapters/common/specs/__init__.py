"""What one pass over the training events learns, as small JSON that can be merged.

In: columns of the training split. Out: `Specs`: counts, ranges, moments, quantiles, lengths, bound
to the data they came from. Never: a value of a validation or test event.
"""
