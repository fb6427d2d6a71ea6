"""Names of branches by pattern. A name that exists is that name; patterns come after."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase


def is_pattern(text: str, names: Collection[str]) -> bool:
    """Whether the text means several names: it has a ``*``, and there is no such name."""
    return "*" in text and text not in names


def matching(pattern: str, names: Collection[str]) -> list[str]:
    """The names that a pattern means, in their order.

    Brackets around a number, as in the names of arrays, are taken as they stand; where no name has
    them, they are a set of characters.

    >>> matching("ArrayI16[10]", ["ArrayI16[10]", "ArrayI161"])
    ['ArrayI16[10]']
    >>> matching("Array*[10]", ["ArrayI16[10]", "ArrayF[10]", "x"])
    ['ArrayI16[10]', 'ArrayF[10]']
    """
    if pattern in names:
        return [pattern]
    literal = re.sub(r"\[(\d*)\]", r"[[]\1]", pattern)
    for text in dict.fromkeys((literal, pattern)):
        if found := [name for name in names if fnmatchcase(name, text)]:
            return found
    return []


def matching_any(patterns: Iterable[str], names: Collection[str]) -> list[str]:
    """The names that any of the patterns means, in their order."""
    found = {name for pattern in patterns for name in matching(pattern, names)}
    return [name for name in names if name in found]
