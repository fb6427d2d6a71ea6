"""The checksums of an RNTuple: ROOT writes one for each page and envelope, uproot ignores most.

They are checked on the bytes that uproot reads anyway: no byte is read or sent twice.
"""

from __future__ import annotations

from typing import Any

import xxhash

from hepdata_adapters.common.files.baskets import DamagedError

CHECKSUM = 8  # bytes of an XXH3-64 checksum, little endian, behind what it is of


def check_pages(ntuple: Any) -> Any:
    """Let each page and page list be checked when it is read from now on; returns the RNTuple.

    Reading raises DamagedError where one differs from its checksum. Pages without one (an option
    of the writer; uproot writes none) are read as they are.
    """
    import uproot

    read_page, read_locator = ntuple.read_page, ntuple.read_locator
    end = ntuple.file.fEND

    def page(destination: Any, cluster: int, column: int, number: int, *rest: Any) -> None:
        description = ntuple.page_link_list[cluster][column].pages[number]
        description.locator.has_checksum = description.has_checksum
        read_page(destination, cluster, column, number, *rest)

    def locator(place: Any, uncompressed: int) -> Any:
        check_place(place.offset, place.num_bytes, end)
        kind = place.__dict__["_fields"].get("has_checksum")
        if kind is None:  # an envelope: its checksum is inside
            chunk, cursor = read_locator(place, uncompressed)
            compare(chunk.raw_data[cursor.index - chunk.start :], f"page list at {place.offset}")
            return chunk, cursor
        size = place.num_bytes
        chunk = ntuple.file.source.chunk(place.offset, place.offset + size + CHECKSUM * kind)
        if kind:
            compare(chunk.raw_data, f"page at byte {place.offset}")
        cursor = uproot.source.cursor.Cursor(place.offset)
        if size >= uncompressed:
            return chunk, cursor
        found = uproot.compression.decompress(chunk, cursor, {}, size, uncompressed)
        return found, uproot.source.cursor.Cursor(0)

    ntuple.read_page, ntuple.read_locator = page, locator
    return ntuple


def check_place(offset: int, size: int, end: int) -> None:
    """Raise DamagedError for a page that is not in a file of ``end`` bytes."""
    if size < 0 or offset < 0 or offset + size > end:
        raise DamagedError(f"a page at bytes {offset} to {offset + size} of {end}")


def compare(data: Any, what: str) -> None:
    """Check bytes that end in their checksum."""
    body, kept = data[:-CHECKSUM], data[-CHECKSUM:]
    if xxhash.xxh3_64_intdigest(body) != int.from_bytes(bytes(kept), "little"):
        raise DamagedError(f"{what} does not agree with its checksum")
