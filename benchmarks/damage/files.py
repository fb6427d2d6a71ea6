"""Small files of the eight kinds: TTree and RNTuple, uncompressed, LZ4, ZLIB and ZSTD."""

from __future__ import annotations

import subprocess
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

COMPRESSIONS = {
    "none": None, "LZ4": uproot.LZ4(4), "ZLIB": uproot.ZLIB(1), "ZSTD": uproot.ZSTD(5)
}  # fmt: skip
KINDS = [f"{tree} {name}" for tree in ("TTree", "RNTuple") for name in COMPRESSIONS]
TREE = "Events"

# real ROOT writes checksums behind the pages of an RNTuple, uproot does not
_ROOT = """
import sys, ROOT
path, kind, algorithm, level, events = sys.argv[1:]
options = ROOT.RDF.RSnapshotOptions()
options.fCompressionAlgorithm = getattr(ROOT.RCompressionSetting.EAlgorithm, algorithm)
options.fCompressionLevel = int(level)
if kind == "RNTuple":
    options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
frame = ROOT.RDataFrame(int(events))
frame = frame.Define("MET", "float(gRandom->Exp(30))").Define("run", "long(rdfentry_ / 100)")
frame = frame.Define("weight", "gRandom->Gaus(1, 1)").Define("good", "rdfentry_ % 3 == 0")
frame = frame.Define("Jet_pt", "ROOT::RVecF v; for (int n = gRandom->Poisson(3); n > 0; n--) "
                     "v.push_back(gRandom->Exp(40)); return v;")
frame = frame.Define("Jet_id", "ROOT::RVecI v(Jet_pt.size()); for (auto &x : v) "
                     "x = gRandom->Integer(9); return v;")
frame.Snapshot("Events", path, ["MET", "run", "weight", "good", "Jet_pt", "Jet_id"], options)
"""
_ALGORITHMS = {"none": "kZLIB", "LZ4": "kLZ4", "ZLIB": "kZLIB", "ZSTD": "kZSTD"}


def write(
    path: Path, kind: str, events: int = 2000, root_python: str | None = None, seed: int = 0
) -> Path:
    """A file of one of `KINDS` with flat, bool, 64-bit and jagged branches."""
    tree, _, compression = kind.partition(" ")
    if root_python:
        settings = [_ALGORITHMS[compression], "0" if compression == "none" else "5"]
        command = [root_python, "-c", _ROOT, str(path), tree, *settings, str(events)]
        subprocess.run(command, check=True, capture_output=True)
        return path
    columns = columns_of(events, seed)
    with uproot.recreate(path, compression=COMPRESSIONS[compression]) as file:
        if tree == "RNTuple":
            file[TREE] = columns
            return path
        types = {name: _type(values) for name, values in columns.items()}
        file.mktree(TREE, types)
        for start in range(0, events, max(events // 4, 1)):
            stop = start + max(events // 4, 1)
            file[TREE].extend({name: values[start:stop] for name, values in columns.items()})
    return path


def columns_of(events: int, seed: int = 0) -> dict[str, object]:
    """The columns of `write` (without real ROOT)."""
    random = np.random.default_rng(seed)
    counts = random.poisson(3, events)
    return {
        "MET": random.exponential(30, events).astype(np.float32),
        "run": np.arange(events) // 100,
        "weight": random.normal(1, 1, events),
        "good": random.random(events) < 0.3,
        "Jet_pt": ak.unflatten(random.exponential(40, counts.sum()).astype(np.float32), counts),
        "Jet_id": ak.unflatten(random.integers(0, 9, counts.sum(), np.int32), counts),
    }


def _type(values: object) -> str:
    return str(ak.type(values).content) if isinstance(values, ak.Array) else str(values.dtype)
