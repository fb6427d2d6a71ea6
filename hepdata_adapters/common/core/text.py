"""Numbers as people read them."""

from __future__ import annotations

from pydantic import ByteSize


def number(value: float) -> str:
    """Four digits, and all digits of whole numbers below ten million.

    >>> number(31.24567), number(1234567), number(0.0)
    ('31.25', '1,234,567', '0')
    """
    whole = float(value).is_integer() and abs(value) < 1e7
    return f"{int(value):,}" if whole else f"{value:,.4g}"


def size_text(size: int) -> str:
    """Bytes in the largest unit that they fill.

    >>> size_text(1536 * 2**20), size_text(10)
    ('1.5 GiB', '10 B')
    """
    return ByteSize(size).human_readable(separator=" ")
