"""``validate``: check a config against its files, without training."""

from __future__ import annotations

from hepdata_adapters.cli.arguments import Config, Set


def validate(config: Config, overrides: Set = []) -> None:  # noqa: B006 (typer reads the default)
    """Check a config against its files, and the model it names."""
    from rich.console import Console

    from hepdata_adapters.common.config_file import load_config
    from hepdata_adapters.common.features import resolve
    from hepdata_adapters.common.manifest import build_manifest
    from hepdata_adapters.common.specs.model import Binding, Specs

    console = Console()
    parsed = load_config(config, overrides)
    manifest = build_manifest(parsed.samples)
    layout = resolve(parsed, manifest)
    if parsed.specs:
        wanted = Binding.of(manifest, parsed.split, layout.identity, layout.statistics)
        Specs.load(parsed.specs).verify(wanted, f"specs {parsed.specs}")
    for number, sample in enumerate(parsed.samples):
        files = [file for file in manifest.files if file.sample == number]
        label = f"{sample.label:g}" if isinstance(sample.label, float) else sample.label
        events = sum(file.entries for file in files)
        console.print(
            f"sample {sample.name}: {len(files)} file(s), {events:,} events, label {label}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    for file in manifest.empty:
        console.print(f"no events in {file.url}:{file.tree}", highlight=False, soft_wrap=True)
    kinds = [feature.branch.kind for feature in layout.features]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    console.print(f"features: {len(kinds)} ({counts}); task: {layout.task or 'none, no labels'}")
    identity = ", ".join(layout.identity) or "file UUID and entry"
    console.print(f"split by {identity}", highlight=False)
    for name, reason in layout.excluded.items():
        console.print(f"excluded {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    if parsed.model.factory:
        from hepdata_adapters.common.factory import load_factory

        load_factory(parsed.model.factory)
    console.print("valid")
