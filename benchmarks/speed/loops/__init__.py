"""One module for each system that is measured: how its users make its batches.

Each has ``source(job) -> Source``. They run in environments of their own, so a module imports
nothing but `benchmarks.speed.job`, numpy, and what it measures.
"""
