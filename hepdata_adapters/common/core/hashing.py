"""Stable hashes and the permutations made of them.

numpy does not promise the same `Generator.permutation` for ever; a plan must be the same for
ever, or a resumed run would repeat some events and miss others. Hence this small mixer.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser (Steele, Lea, Flood 2014), elementwise on uint64."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key(*parts: int | str) -> int:
    """A 64-bit key of a tuple of integers and strings.

    >>> key("epoch", 1) != key("epoch", 2)
    True
    """
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def permutation(n: int, *parts: int | str) -> NDArray[np.int64]:
    """A permutation of ``range(n)`` fixed by the key of ``parts``, ``(n,)`` int64.

    >>> permutation(5, "a").tolist() == permutation(5, "a").tolist()
    True
    """
    hashed = mix(np.arange(n, dtype=np.uint64) ^ np.uint64(key(*parts)))
    return np.argsort(hashed, kind="stable")


def hash_integers(columns: list[NDArray[Any]], seed: int) -> NDArray[np.uint64]:
    """One hash for each row of integer columns of equal length."""
    hashed = np.full(len(columns[0]), seed & _MASK, np.uint64)
    for column in columns:
        hashed = mix(hashed ^ column.astype(np.uint64))
    return hashed


def digest(document: Any) -> str:
    """SHA-256 of a JSON document in canonical form."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
