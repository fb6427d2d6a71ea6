"""What a conversion could not carry over, one note for each place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

What = Literal["left out", "differs", "to do"]
LONGEST = 400


@dataclass(frozen=True)
class Note:
    """place: the key in weaver's config. what: whether it is missing, or means something else.

    >>> print(Note("inputs.pf", "differs", "the axes are swapped"))
    inputs.pf (differs): the axes are swapped
    """

    place: str
    what: What
    reason: str

    def __str__(self) -> str:
        return one_line(f"{self.place} ({self.what}): {self.reason}")


def one_line(text: str) -> str:
    """Text of unknown origin, fit for a comment: no line breaks, no control characters.

    >>> one_line("a" + chr(10) + "b" + chr(27))
    'a b?'
    """
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
