"""What an archive holds is what was exported: hashes of its files, and JSON within bounds.

``SHA256SUMS`` stands in every archive; ``sha256sum -c SHA256SUMS`` checks it without this package.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepdata_serving.errors import ArchiveError

SUMS = "SHA256SUMS"
MAX_JSON_BYTES = 64 * 2**20
MAX_JSON_DEPTH = 64
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\\\n][^\\\n]*)")
_SINCE = 2  # the format_version of metadata.json from which every archive has hashes


def sums_text(files: Mapping[str, bytes]) -> str:
    r"""The hashes of these files, by path, as ``sha256sum`` writes them.

    >>> sums_text({"b.json": b"{}", "a": b""})[:70]
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  a\n44'
    """
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))


def folder_sums(folder: Path) -> str:
    """`sums_text` of all files below a folder."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    lines = {path.relative_to(folder).as_posix(): _hash(path) for path in found}
    return "".join(f"{lines[name]}  {name}\n" for name in sorted(lines))


def read_checked(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The contents of some files of an archive, each as it was when it was exported.

    Raises ArchiveError for a file that is missing or not listed, or that has changed.
    """
    listed = _listed(folder / SUMS, folder / "metadata.json")
    found: dict[str, bytes] = {}
    for name in names:
        try:
            found[name] = (folder / name).read_bytes()
        except OSError as error:
            raise ArchiveError(f"{folder / name} cannot be read: {error.strerror}") from error
        if listed is not None:
            _compare(folder / name, listed.get(name), hashlib.sha256(found[name]).hexdigest())
    return found


def check_folder(folder: Path, extra: str = "") -> None:
    """Raise ArchiveError for a file that has changed or is gone since the export.

    extra: the folder in it that has the hashes and the metadata. An archive of an earlier version
    of this package has no hashes and passes, like one that others wrote.
    """
    listed = _listed(folder / extra / SUMS, folder / extra / "metadata.json")
    for name, wanted in (listed or {}).items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ArchiveError(f"{folder / extra / SUMS} lists {name!r}, which is outside of it")
        try:
            _compare(path, wanted, _hash(path))
        except OSError as error:
            raise ArchiveError(f"{path} cannot be read: {error.strerror}") from error


def parse_json(text: bytes | str, name: str) -> Any:
    """JSON that an archive holds. Raises ArchiveError naming it where it is not, or is too deep.

    >>> parse_json("[" * 100 + "]" * 100, "golden.json")
    Traceback (most recent call last):
    ...
    hepdata_serving.errors.ArchiveError: golden.json is nested more than 64 levels deep
    """
    if len(text) > MAX_JSON_BYTES:
        raise ArchiveError(f"{name} has {len(text)} bytes, more than {MAX_JSON_BYTES}")
    deep = ArchiveError(f"{name} is nested more than {MAX_JSON_DEPTH} levels deep")
    try:
        value = json.loads(text)
    except RecursionError:
        raise deep from None
    except ValueError as error:
        raise ArchiveError(f"{name} is not valid JSON: {str(error)[:200]}") from error
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        level = [inner for item in level for inner in _items(item)]
    if any(isinstance(item, dict | list) for item in level):
        raise deep
    return value


def _items(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def _listed(sums: Path, metadata: Path) -> dict[str, str] | None:
    """The hash of each file; None for an archive from before there were any."""
    try:
        lines = sums.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        if _has_hashes(metadata):
            raise ArchiveError(f"{sums} is missing: export the model again") from None
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ArchiveError(f"{sums} cannot be read: {error}") from error
    found = [_LINE.fullmatch(line) for line in lines]
    if not lines or not all(found):
        raise ArchiveError(f"{sums} is corrupt: export the model again")
    return {match[2]: match[1] for match in found if match}


def _has_hashes(metadata: Path) -> bool:
    if not metadata.is_file():
        return False
    about = parse_json(metadata.read_bytes(), str(metadata))
    version = about.get("format_version") if isinstance(about, dict) else None
    return not isinstance(version, int) or version >= _SINCE


def _compare(path: Path, wanted: str | None, found: str) -> None:
    if wanted is None:
        raise ArchiveError(f"{path} is not listed in {SUMS}: export the model again")
    if found != wanted:
        raise ArchiveError(
            f"{path} is not the file that was exported: its SHA-256 is {found[:16]}…, "
            f"{SUMS} says {wanted[:16]}…. Copy the archive again, or export the model again"
        )


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
