"""Whether files are what they were: levels of `verify`, and the check of a whole data set ahead.

``size`` compares what each tree looks like with what the first run saw, ``checksum`` also the
values of each read (see `checksums`). Both compare by the name of the file: one that was written
anew is a difference, too, until it is learned again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.cache import cache_folder
from hepdata_adapters.common.core.errors import DataError, FileError
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.files.catalogue import adler32, matched, read_catalogue
from hepdata_adapters.common.files.checksums import RENEW, Difference, Record
from hepdata_adapters.common.files.manifest import UNIT_ENTRIES, FileInfo, Manifest
from hepdata_adapters.common.files.open import is_remote
from hepdata_adapters.common.files.source import Source

_VERSION = [1, *UNIT_ENTRIES]  # of what is in a record; of another one nothing is taken


def verified(config: DatasetConfig, manifest: Manifest) -> Manifest:
    """The manifest, its files compared with what earlier runs saw, as ``config.verify`` says.

    Raises FileError naming the first file that is not what it was, ConfigError where the list of
    checksums lacks a file or what is learned cannot be kept.
    """
    if config.verify == "none":
        return manifest
    listed = _listed(config.checksums, manifest)
    files = []
    for file in manifest.files:
        record = Record(_record_path(file)).refresh()
        what, value = compare_look(record, file), listed.get(file.url)
        if not what and value is not None:
            what = compare_whole(record, file, value)
        if what:
            raise FileError(what, file=file.url, tree=file.tree)
        files.append(replace(file, record=record.path) if config.verify == "checksum" else file)
    return Manifest(tuple(files))


@dataclass
class Report:
    """What `verify_files` found of a file. compared, learned: columns of units."""

    file: FileInfo
    branches: int = 0
    compared: int = 0
    learned: int = 0
    whole: str = "not listed"
    faults: list[str] = field(default_factory=list)


def verify_files(
    manifest: Manifest,
    branches: Callable[[FileInfo], Sequence[str]],
    *,
    checksums: str | None = None,
    renew: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Report]:
    """Read the branches of all units, compare them with what is known and learn the rest.

    checksums: a list of adler32 of whole files. renew: forget what is known first.
    progress: called with the entries of each unit.
    """
    listed = _listed(checksums, manifest)
    for file in manifest.files:
        plain = file.as_written
        names = list(file.preparation.needs(branches(file)))
        record = Record(_record_path(file))
        if renew:
            record.renew()
        report = Report(file, len(names))
        try:
            what = compare_look(record.refresh(), file)
            report.faults += [what] if what else []
            if file.url in listed:
                what = compare_whole(record, file, listed[file.url], again=True)
                report.whole = "differs" if what else "agrees"
                report.faults += [what] if what else []
            for difference in _units(record, plain, names, report, progress):
                start, stop = difference.entries
                report.faults.append(
                    f"branch {difference.branch}, entries {start} to {stop}: {difference}"
                )
        except DataError as error:
            report.faults.append(str(error))
        yield report


def _units(
    record: Record,
    file: FileInfo,
    names: Sequence[str],
    report: Report,
    progress: Callable[[int], None] | None,
) -> Iterator[Difference]:
    with Source(names) as source:
        for start, stop in pairwise(file.units.tolist()):
            columns = source.read(file, start, stop)
            known = sum(name in record.known.get((start, stop), {}) for name in names)
            yield from record.compare(columns, start, stop)
            report.compared += known
            report.learned += len(names) - known
            if progress:
                progress(stop - start)


def compare_look(record: Record, file: FileInfo) -> str:
    """How the tree looks other than in its record, empty if it does not; a first look is kept."""
    look = _look(file)
    if record.what is not None and record.what.value.get("version") != _VERSION:
        record.renew()
    if record.what is None:
        record.add(what=look)
    before = record.what
    assert before is not None  # noqa: S101 (just added)
    for name, now in look.items():
        was = before.value.get(name)
        if was != now:
            shown = f": {name} was {was}, is {now}"
            return f"the data changed since {before.time}{shown}; {RENEW}"
    return ""


def _look(file: FileInfo) -> dict[str, Any]:
    branches = [[b.name, b.kind, b.dtype, b.size] for b in file.schema.values() if b.readable]
    return {
        "version": _VERSION,
        "size": file.content.size,
        "entries": file.entries,
        "UUID": file.uuid,
        "entry ranges": digest(file.units.tolist())[:16],
        "branches": digest(branches)[:16],
    }


def compare_whole(record: Record, file: FileInfo, listed: str, *, again: bool = False) -> str:
    """How the whole file differs from a list, empty if it does not.

    It is read once; later, unless ``again``, its size and time say that it is the same.
    """
    state = {"size": file.content.size, "state": file.content.state}
    seen = record.whole
    if again or seen is None or seen.value != {"adler32": listed, **state}:
        found = adler32(file.url)
        if found != listed:
            return f"its adler32 is {found}, the list of checksums says {listed}"
        record.add(whole={"adler32": found, **state})
    return ""


def _listed(checksums: str | None, manifest: Manifest) -> Mapping[str, str]:
    if checksums is None:
        return {}
    return matched(read_catalogue(Path(checksums)), [file.url for file in manifest.files])


def _record_path(file: FileInfo) -> Path:

    name = file.url
    if not is_remote(name):
        name = str(Path(name.removeprefix("file://")).absolute())
    return cache_folder().absolute() / "checksums" / f"{digest([name, file.tree])[:32]}.jsonl"
