"""The specs pass: read everything once, keep statistics of the training split."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.cache import Cache, cache_folder
from hepdata_adapters.common.core.errors import ConfigError, DataError, SpecsError
from hepdata_adapters.common.core.hashing import digest
from hepdata_adapters.common.core.threads import default_threads
from hepdata_adapters.common.events.cross_sections import scaled_to_cross_sections
from hepdata_adapters.common.events.layout import Layout, manifest_branch, resolve
from hepdata_adapters.common.events.split import SPLITS, strategy
from hepdata_adapters.common.files.derived_columns import scan
from hepdata_adapters.common.files.manifest import Manifest
from hepdata_adapters.common.specs.binding import Binding
from hepdata_adapters.common.specs.identity_checks import check_identity
from hepdata_adapters.common.specs.merge import combined, merged_classes
from hepdata_adapters.common.specs.model import ClassStatistics, Sampled, Specs
from hepdata_adapters.common.specs.parallel import Workers, summaries_of
from hepdata_adapters.common.specs.part_sums import summaries_here
from hepdata_adapters.common.specs.parts import (
    Part,
    Summary,
    census_identity,
    chosen_units,
    file_branches,
    joined,
    parts_of,
)
from hepdata_adapters.common.specs.separation import Shapes, merged_shapes
from hepdata_adapters.common.specs.sums import empty

__all__ = [
    "Progress", "binding_of", "cached_specs", "compute_specs", "file_branches",
    "specs_of",
]  # fmt: skip

Progress = Callable[[int, int], None]
"""Called with (events done, events in all)."""


def compute_specs(
    config: DatasetConfig,
    progress: Progress | None = None,
    *,
    processes: int = 1,
    threads: int | None = None,
    dask: str | None = None,
    fraction: float = 1.0,
) -> Specs:
    """One pass over all files of a config.

    The result does not depend on who computes it: ``threads`` of this process (None: those of
    ``config.reading``, else one a core), ``processes`` of this machine, or the cluster of a Dask
    scheduler with the address ``dask``. fraction: the part of the units (entry ranges) of which
    the values are read; events are counted in all of them, for which only the branches that
    decide the split and the selection are read.
    Raises the errors of the manifest and of reading, WorkerError for a process that died, and
    DataError if the training split is empty or holds values too large for float64 moments.
    """
    workers = Workers(processes, dask, threads)
    manifest = scan(config)
    layout = resolve(config, manifest)
    return specs_of(config, manifest, layout, progress, workers=workers, fraction=fraction)


def specs_of(
    config: DatasetConfig,
    manifest: Manifest,
    layout: Layout,
    progress: Progress | None = None,
    *,
    workers: Workers = Workers(),  # noqa: B008 (frozen)
    fraction: float = 1.0,
) -> Specs:
    """`compute_specs` for a manifest that is there already."""
    specs = partial_specs(config, manifest, layout, progress, workers=workers, fraction=fraction)
    check_identity(config.split, specs)
    if specs.events("train") == 0:
        raise DataError(f"the training split is empty ({specs.summary()}): {_why_empty(specs)}")
    if specs.sampled and not specs.sampled.events:
        raise DataError(
            f"no training event is in the {specs.sampled.units} of {specs.sampled.of} units of a "
            f"fraction {fraction:g}: raise it"
        )
    branches = dict(specs.branches)
    for name in layout.statistics:
        if name not in branches:  # that of a sample without a training event
            branch = manifest_branch(manifest, config, name)
            branches[name] = empty(branch, weighted=config.statistics != "events")
    return specs.model_copy(update={"branches": branches})


def _why_empty(specs: Specs) -> str:
    """What took the training events away, and what to do about it."""
    files = specs.binding.files
    if specs.events():
        return strategy(specs.binding.split).hint
    dropped = [
        f"{reason} ({events:,} events)"
        for number, reason in enumerate(specs.binding.drops)
        if (events := sum(file.dropped[number] for file in files))
    ]
    if dropped:
        return (
            f"all events are left out, for {', '.join(dropped)}: use another policy than drop, "
            f"such as missing: median or overflow: truncate"
        )
    cuts = ", ".join(dict.fromkeys(repr(file.selection) for file in files if file.selection))
    return f"no event passes the selection {cuts}: change it"


def partial_specs(
    config: DatasetConfig,
    manifest: Manifest,
    layout: Layout,
    progress: Progress | None,
    *,
    workers: Workers,
    fraction: float,
) -> Specs:
    """`specs_of`, where the training split may be empty: these files need not be all there are."""
    if not 0.0 < fraction <= 1.0:
        raise ConfigError(f"fraction is above 0 and at most 1, not {fraction:g}")
    if config.statistics == "classes" and layout.task not in ("binary", "multiclass"):
        raise ConfigError("statistics: classes needs labels that are classes")
    binding = binding_of(config, manifest, layout)
    if config.statistics == "weights":  # only then does the size of a weight matter here
        config = scaled_to_cross_sections(config, manifest, layout, Cache(cache_folder()))
    classes: dict[str, ClassStatistics] = {}
    found_in = [Summary(counts=()) for _ in manifest.files]
    shapes: Shapes = {}
    parts = parts_of(config, manifest, layout, fraction)
    threads = workers.threads or config.reading.threads or default_threads()
    for part, summary in _summarised(parts, workers, threads, progress, manifest.entries):
        classes = merged_classes(classes, summary.classes, part.file.url)
        shapes = merged_shapes(shapes, summary.shapes)
        small = summary.model_copy(update={"classes": {}, "shapes": {}})
        found_in[part.number] = joined(found_in[part.number], small)
    identity = census_identity(config, manifest, layout)
    records = tuple(
        record.model_copy(
            update={
                "counts": {
                    name: tuple(unit[code] for unit in found.counts)
                    for code, name in enumerate(SPLITS)
                },
                "dropped": tuple(
                    sum(unit[len(SPLITS) + number] for unit in found.counts)
                    for number in range(len(layout.drops))
                ),
                "refused": found.refused if any(found.refused) else (),
                "census": found.census,
                "distinct": found.identities.distinct if identity else None,
                "missing": found.missing,
            }
        )
        for record, found in zip(binding.files, found_in, strict=True)
    )
    binding = binding.model_copy(update={"files": records})
    seen = [
        one._replace(file=number)
        for number, found in enumerate(found_in)
        for one in found.identities.seen
    ]
    sampled = None
    if fraction < 1.0:
        seed = strategy(config.split).seed
        chosen = [chosen_units(file, fraction, seed) for file in manifest.files]
        sampled = Sampled(
            fraction=fraction,
            seed=seed,
            units=sum(int(units.sum()) for units in chosen),
            of=sum(len(units) for units in chosen),
            events=sum(found.events for found in classes.values()),
        )
    return combined(binding, classes, sampled, seen, shapes)


def _summarised(
    parts: Iterator[Part],
    workers: Workers,
    threads: int,
    progress: Progress | None,
    entries: int,
) -> Iterator[tuple[Part, Summary]]:
    """Each part with its summary, in order; reports the entries done."""
    done = 0

    def advance(more: int) -> None:
        nonlocal done
        done += more
        if progress:
            progress(done, entries)

    if workers.remote:
        for part, summary in summaries_of(parts, workers):
            advance(part.entries)
            yield part, summary
    else:
        yield from summaries_here(parts, threads, advance)


def binding_of(config: DatasetConfig, manifest: Manifest, layout: Layout) -> Binding:
    """What specs of this dataset belong to."""
    return Binding.of(config, manifest, layout)


def cached_specs(
    config: DatasetConfig,
    manifest: Manifest,
    layout: Layout,
    cache: Cache,
    progress: Progress | None = None,
) -> Specs:
    """The specs of a config: from ``config.specs`` if given, else from the cache, else made now.

    The cache file is named by the data as they are here: content, and modification time or ETag.
    Raises SpecsError if ``config.specs`` belongs to other data.
    """
    wanted = binding_of(config, manifest, layout)
    if config.specs:
        specs = Specs.load(config.specs)
        specs.verify(wanted, f"specs {config.specs}")
        return specs.read_here(wanted)
    name = f"specs-{digest([wanted.hash(), manifest.here])[:16]}.json"
    # the cache is ours: a file that is damaged or of another version is made anew, not used
    with suppress(SpecsError):
        specs = Specs.load(cache.path(name))
        specs.verify(wanted, f"specs {name}")
        if specs.binding.same_targets(wanted):
            return specs.read_here(wanted)
    specs = specs_of(config, manifest, layout, progress)
    cache.keep(name, specs.save)
    return specs
