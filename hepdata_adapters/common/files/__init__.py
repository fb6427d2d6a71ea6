"""From a path or URL to the columns of an entry range: the only room that reads ROOT files.

In: names, globs, URLs. Out: a manifest (files, trees, branches, entry ranges), and columns whose
values come from the very branch that was asked for, of the file that was scanned, with lists of
objects selected and columns derived. Never: splits, labels, shuffling, frameworks.
"""
