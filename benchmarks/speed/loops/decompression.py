"""Decompressing what the branches hold, and nothing else: no loader of these files is faster."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cramjam
import numpy as np
import uproot

from benchmarks.speed.job import Job, Source

Span = tuple[int, int, int]  # first byte, stored and uncompressed size
_KEY = struct.Struct(">ihiIh")  # fNbytes, version, fObjlen, fDatime, fKeylen
_INTO = {
    b"ZS": cramjam.zstd.decompress_into,
    b"L4": cramjam.lz4.decompress_block_into,
    b"ZL": cramjam.zlib.decompress_into,
    b"XZ": cramjam.xz.decompress_into,
}
_HEADER = 9  # of each compressed block: algorithm, method, stored and uncompressed size
_CHECKSUM = 8  # before the data of an LZ4 block


def source(job: Job) -> Source:
    """options: ``threads``. A batch is a file; the compressed bytes come from the page cache."""
    files = [_spans(path, job) for path in job.files]
    threads = job.options["threads"]
    pool = ThreadPoolExecutor(threads)

    def epoch() -> Iterator[int]:
        for path, (entries, branches) in zip(job.files, files, strict=True):
            with open(path, "rb") as file:
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            shares = [branches[number::threads] for number in range(threads)]
            list(pool.map(lambda share, data=data: _decompress(data, share), shares))
            yield entries

    return Source(epoch, int, None, packages=("cramjam", "uproot"))


def _decompress(data: memoryview, branches: list[list[Span]]) -> None:
    most = max(size for spans in branches for *_, size in spans)
    scratch = np.empty(most, np.uint8).data
    for spans in branches:
        for begin, stored, size in spans:
            if stored >= size:  # not compressed
                scratch[:size] = data[begin : begin + size]
                continue
            done, end = 0, begin + stored
            while begin < end:
                into = _INTO[bytes(data[begin : begin + 2])]
                length = int.from_bytes(data[begin + 3 : begin + 6], "little")
                first = begin + _HEADER + (_CHECKSUM if into is _INTO[b"L4"] else 0)
                begin += _HEADER + length
                done += into(data[first:begin], scratch[done:size])
            if done != size:
                raise ValueError(f"{done} bytes came of {size}, before byte {end}")


def _spans(path: str, job: Job) -> tuple[int, list[list[Span]]]:
    """Entries of a file, and where the baskets or pages of each branch lie."""
    with uproot.open(f"{path}:{job.tree}") as tree:
        if isinstance(tree, uproot.TTree):
            found = [_baskets(path, tree[name]) for name in job.branches]
        else:
            wanted = set(job.branches)
            found = [
                _pages(tree, number) for number, record in enumerate(tree.column_records)
                if _top_name(tree, record.field_id) in wanted
            ]  # fmt: skip
        return int(tree.num_entries), found


def _baskets(path: str, branch: Any) -> list[Span]:
    spans = []
    with open(path, "rb") as file:
        for number in range(branch.num_baskets):
            seek = int(branch.member("fBasketSeek")[number])
            if not seek:
                raise ValueError(f"{path}: {branch.name} keeps a basket in the tree itself")
            file.seek(seek)
            stored, _, size, _, key = _KEY.unpack(file.read(_KEY.size))
            spans.append((seek + key, stored - key, size))
    return spans


def _top_name(ntuple: Any, field: int) -> str:
    records = ntuple.field_records
    while records[field].parent_field_id != field:
        field = records[field].parent_field_id
    return str(records[field].field_name)


def _pages(ntuple: Any, column: int) -> list[Span]:
    bits = ntuple.column_records[column].nbits
    return [
        (page.locator.offset, page.locator.num_bytes, (page.num_elements * bits + 7) // 8)
        for links in ntuple.page_link_list
        for page in links[column].pages
    ]
