"""What every room needs: errors, columns, hashes, the ledger, progress, whole files, the cache.

In: numbers, bytes, texts. Out: the same in one agreed form. Never: physics, a config, ROOT files,
an import of another room.
"""
