"""Whole-file checksums as grid catalogues hold them: adler32 by file name."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.files.open import is_remote, open_root, reading

BLOCK = 8 * 2**20
_SUM = re.compile(r"(?:adler32:|ad:)?([0-9a-fA-F]{8})")


def read_catalogue(path: Path) -> dict[str, str]:
    """Checksums by name of a file.

    Lines of checksum and name in either order, as ``xrdadler32`` prints them, or JSON: a mapping
    from names, or a list of ``{"name": …, "adler32": …}`` as Rucio gives it.
    Raises ConfigError for what is neither.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"checksums: {path} cannot be read: {error}") from None
    pairs = _of_json(path, text) if text.lstrip()[:1] in ("{", "[") else _of_lines(path, text)
    found: dict[str, str] = {}
    for name, value in pairs:
        match = _SUM.fullmatch(value)
        if not match:
            raise ConfigError(
                f"checksums: {path} gives {value!r} for {name}; adler32 has 8 hexadecimal digits"
            )
        if found.setdefault(name, match[1].lower()) != match[1].lower():
            raise ConfigError(f"checksums: {path} gives two for {name}")
    if not found:
        raise ConfigError(f"checksums: {path} is empty")
    return found


def _of_json(path: Path, text: str) -> Iterator[tuple[str, str]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"checksums: {path} is no JSON: {error}") from None
    if isinstance(document, dict):
        yield from ((str(name), str(value)) for name, value in document.items())
        return
    for item in document:
        if not isinstance(item, dict) or not {"name", "adler32"} <= item.keys():
            raise ConfigError(f"checksums: {path} has an item without name and adler32: {item}")
        yield str(item["name"]), str(item["adler32"])


def _of_lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        first, _, rest = line.strip().partition(" ")
        before, _, last = line.strip().rpartition(" ")
        if _SUM.fullmatch(first) and rest.strip():
            yield rest.strip(), first
        elif _SUM.fullmatch(last) and before.strip():
            yield before.strip(), last
        else:
            raise ConfigError(f"checksums: line {number} of {path} is not checksum and name")


def matched(catalogue: Mapping[str, str], urls: Iterable[str]) -> dict[str, str]:
    """The checksum of each file, by the name that agrees with most of its path from the right.

    Raises ConfigError naming the files that the catalogue has not, or cannot tell apart.

    >>> matched({"a.root": "01", "x/a.root": "02"}, ["root://host//data/x/a.root"])
    {'root://host//data/x/a.root': '02'}
    """
    by_end: dict[str, list[tuple[list[str], str]]] = {}
    for name, value in catalogue.items():
        parts = _parts(name)
        by_end.setdefault(parts[-1], []).append((parts, value))
    found: dict[str, str] = {}
    missing: list[str] = []
    unclear: list[str] = []
    for url in urls:
        path = _parts(url)
        own = [(len(p), v) for p, v in by_end.get(path[-1], []) if path[-len(p) :] == p]
        longest = {value for size, value in own if size == max(own)[0]}
        if len(longest) == 1:
            found[url] = longest.pop()
        else:
            (unclear if longest else missing).append(url)
    for names, what in ((missing, "has no checksum of"), (unclear, "has several checksums of")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ConfigError(f"checksums: the list {what} {', '.join(names[:3])}{more}")
    return found


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part] or [""]


def adler32(url: str, progress: Callable[[int], None] | None = None) -> str:
    """The checksum of a file, asked from a ``root://`` server where it knows, else of its bytes.

    progress: called with the bytes of each block. Raises FileError.
    """
    with reading(file=url):
        if url.startswith("root://"):
            asked = _asked(url)
            if asked:
                return asked
        value = 1
        for block in _blocks(url):
            value = zlib.adler32(block, value)
            if progress:
                progress(len(block))
        return f"{value:08x}"


def _asked(url: str) -> str | None:
    """What the server says, None where it keeps no such checksums."""
    import fsspec

    with open_root(url):  # refuses what is missing; the client has its settings
        system, path = fsspec.core.url_to_fs(url)
        ask: Any = getattr(system, "checksum", None)
        try:
            algorithm, value = ask(path)
        except (OSError, TypeError, NotImplementedError):
            return None
    return str(value).lower().zfill(8) if algorithm == "adler32" else None


def _blocks(url: str) -> Iterator[bytes]:
    if not is_remote(url):
        with Path(url.removeprefix("file://")).open("rb") as file:
            while block := file.read(BLOCK):
                yield block
        return
    with open_root(url) as directory:
        source = directory.file.source
        size = source.num_bytes
        for start in range(0, size, BLOCK):
            yield bytes(source.chunk(start, min(start + BLOCK, size)).raw_data)
