"""Numbers as people read them."""

from __future__ import annotations


def number(value: float) -> str:
    """Four digits, and all digits of whole numbers below ten million.

    >>> number(31.24567), number(1234567), number(0.0)
    ('31.25', '1,234,567', '0')
    """
    whole = float(value).is_integer() and abs(value) < 1e7
    return f"{int(value):,}" if whole else f"{value:,.4g}"
