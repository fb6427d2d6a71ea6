"""For the tests of root_dataset: datasets with few options, and what is in them."""

from __future__ import annotations

from pathlib import Path

from hepdata_adapters.tf import root_dataset

ROOT = Path(__file__).resolve().parents[2]
FEATURES = ["MET", "passes", "Jet_pt", "Jet_id"]
PAD = 4


def options_of(**options) -> dict[str, object]:
    return {
        "features": FEATURES,
        "defaults": {"scaling": "none", "length": PAD},
        "progress": False,
        "sampling": {"chunk_size": 70},
    } | options


def labels_of(files: list[Path]) -> dict[str, int]:
    return {str(path): number % 2 for number, path in enumerate(files)}


def tf_dataset(files: list[Path], **options):
    return root_dataset(labels_of(files), **options_of(**options))


def events_of(dataset) -> list[list[int]]:
    return [event for batch in dataset for event in batch["event"].numpy().tolist()]
