"""Specs of a dataset that has grown: only the files that are new are read."""

from __future__ import annotations

from hepdata_adapters.common.config.dataset_config import DatasetConfig
from hepdata_adapters.common.core.errors import SpecsError
from hepdata_adapters.common.events.layout import resolve
from hepdata_adapters.common.files.derived_columns import scan
from hepdata_adapters.common.files.manifest import Manifest
from hepdata_adapters.common.specs.binding import file_differences
from hepdata_adapters.common.specs.compute import Progress, binding_of, partial_specs
from hepdata_adapters.common.specs.identities import of_files
from hepdata_adapters.common.specs.merge import merge_specs
from hepdata_adapters.common.specs.model import Specs
from hepdata_adapters.common.specs.parallel import Workers


def update_specs(
    config: DatasetConfig,
    old: Specs,
    progress: Progress | None = None,
    *,
    workers: Workers = Workers(),  # noqa: B008 (frozen)
) -> Specs:
    """The specs of a config, from the old ones and a pass over the files that they do not hold.

    New files may stand anywhere among the old ones; the result is bound to the order of the
    config. A fraction that the old specs were made of holds for the new files too.
    Raises SpecsError where an old file has changed or is gone: specs keep the sum over all
    files, from which none can be taken out. The same where the split or a selection is another.
    """
    manifest = scan(config)
    layout = resolve(config, manifest)
    wanted = binding_of(config, manifest, layout)
    known = {file.place: file for file in old.binding.files}
    present = [file for file in wanted.files if file.place in known]
    found = file_differences(old.binding.files, present) + old.binding.other_differences(wanted)
    if wanted.branches != old.binding.branches:
        found.append("the branches are others")
    if found:
        raise SpecsError(
            f"specs cannot be updated: {'; '.join(found[:6])}. A new pass is needed: "
            f"hepdata-adapters specs CONFIG -o FILE"
        )
    new = Manifest(
        tuple(
            file
            for file, record in zip(manifest.files, wanted.files, strict=True)
            if record.place not in known
        )
    )
    specs = old
    if new.files:
        fraction = old.sampled.fraction if old.sampled else 1.0
        fresh = partial_specs(config, new, layout, progress, workers=workers, fraction=fraction)
        specs = merge_specs([old, fresh])
    known = {file.place: file for file in specs.binding.files}
    files = tuple(file.counted_as(known[file.place]) for file in wanted.files)
    binding = wanted.model_copy(update={"files": files})
    place = {file.place: number for number, file in enumerate(files)}
    numbers = {number: place[file.place] for number, file in enumerate(specs.binding.files)}
    seen = of_files(specs.identities, numbers, manifest.entries)
    return specs.model_copy(update={"binding": binding, "hash": binding.hash(), "identities": seen})
