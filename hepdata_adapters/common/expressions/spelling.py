"""ROOT's and C's spellings, rewritten in Python's."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection

from hepdata_adapters.common.core.errors import ConfigError

_REPLACED = (
    (re.compile(r"TMath::"), ""),
    (re.compile(r"(?<=[A-Za-z])\$(?=\s*\()"), ""),
    (re.compile(r"&&?"), " and "),
    (re.compile(r"\|\|?"), " or "),
    (re.compile(r"!(?!=)|~"), " not "),
)
_CLOSING = {"(": ")", "[": "]"}


def pythonic(text: str) -> str:
    """The same expression as Python writes it.

    ``&``, ``&&``, ``|``, ``||``, ``!`` and ``~`` become words, ``c ? a : b`` becomes
    ``where(c, a, b)``; ``TMath::`` and the ``$`` of ``Sum$(…)`` fall away. Raises SyntaxError for
    a ``?`` without its ``:`` and for brackets that do not close, RecursionError where these are
    nested too deep.

    >>> pythonic("nJet > 2 && !veto ? TMath::Abs(MET) : Sum$(Jet_pt)")
    'where((nJet > 2  and   not veto ), ( Abs(MET) ), ( Sum(Jet_pt)))'
    """
    for pattern, ours in _REPLACED:
        text = pattern.sub(ours, text)
    return _ternaries(text) if "?" in text else text


def without_slashes(text: str, known: Collection[str]) -> tuple[str, dict[str, str]]:
    """The text with a word for each branch whose name has slashes, and the branch of each word.

    ``electron/pt`` without spaces is the member of a split object where there is one; to divide,
    put spaces around the slash. Raises ConfigError where it could be both.

    >>> without_slashes("electron/pt > 2 * pt", {"electron/pt", "pt"})
    ('member_0_ > 2 * pt', {'member_0_': 'electron/pt'})
    """
    members: dict[str, str] = {}
    for name in sorted((n for n in known if "/" in n and n in text), key=len, reverse=True):
        pattern = rf"(?<![\w./]){re.escape(name)}(?![\w/]|\.\w|\s*\()"
        if not re.search(pattern, text):
            continue
        if all(part in known for part in name.split("/")):
            raise ConfigError(
                f"expression {text[:200]!r}: {name!r} is a branch, and so is each of its parts: "
                f"put spaces around the / to divide (the branch cannot be named here)"
            )
        word = next(w for i in itertools.count() if (w := f"member_{i}_") not in {*members, *known})
        members[word] = name
        text = re.sub(pattern, word, text)
    return text, members


def _ternaries(text: str) -> str:
    """Rewrite each ``c ? a : b``, inside of brackets first.

    It binds most weakly but for the comma, so it reaches from one comma or bracket to the next.
    """
    parts: list[str] = []
    rewritten, start = "", 0
    while start < len(text):
        character = text[start]
        if character in _CLOSING:
            stop = _closing(text, start)
            rewritten += character + _ternaries(text[start + 1 : stop]) + text[stop]
            start = stop
        elif character == ",":
            parts.append(rewritten)
            rewritten = ""
        else:
            rewritten += character
        start += 1
    return ",".join(_ternary(part) for part in [*parts, rewritten])


def _ternary(text: str) -> str:
    """One ``c ? a : b``; those in its branches are in brackets, or follow C's rules."""
    question = _outside(text, "?", 0)
    if question < 0:
        return text
    waiting, place = 1, question
    while waiting:
        place = min(
            (found for mark in "?:" if (found := _outside(text, mark, place + 1)) >= 0),
            default=-1,
        )
        if place < 0:
            raise SyntaxError("a ? without its :")
        waiting += 1 if text[place] == "?" else -1
    condition, yes, no = text[:question], text[question + 1 : place], text[place + 1 :]
    return f"where(({condition}), ({_ternary(yes)}), ({_ternary(no)}))"


def _outside(text: str, mark: str, start: int) -> int:
    """The first ``mark`` outside of brackets from ``start``, -1 if there is none."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([") - (text[place] in ")]")
        if depth == 0 and text[place] == mark:
            return place
    return -1


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at ``start`` closes."""
    expected: list[str] = []
    for place in range(start, len(text)):
        if text[place] in _CLOSING:
            expected.append(_CLOSING[text[place]])
        elif text[place] in ")]":
            if expected.pop() != text[place]:
                break
            if not expected:
                return place
    raise SyntaxError("a bracket does not close")
