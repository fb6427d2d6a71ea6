"""Everything that needs no machine-learning framework, in rooms; each says what it is for.

In: files, a config, raw events. Out: batches of numpy arrays, specs, plans, run folders, reports.
Never: an import of torch or TensorFlow. A room imports from rooms above it in this list only:
core, expressions, config, files, events, specs, transform, plan (which imports core alone), stream,
inference, runs, report, weaver. The command line, serving, torch and tf import from here.
"""
