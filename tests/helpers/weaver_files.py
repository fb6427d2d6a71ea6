"""For the tests of weaver's data configs: a config, jets for it, and np.clip of jagged arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

CONFIG = """
treename: tree
selection:
   ### a comment, as weaver's own configs have them
   (jet_pt > 200) & (np.abs(jet_eta) < 2) & ~(ak.num(part_px) < 2)
new_variables:
   part_mask: ak.ones_like(part_energy)
   part_pt: np.hypot(part_px, part_py)
   part_pt_log: np.log(part_pt)
   part_e_log: np.log(part_energy)
   part_logptrel: np.log(part_pt/jet_pt)
   part_logerel: np.log(part_energy/jet_energy)
   part_deltaR: np.hypot(part_deta, part_dphi)
   part_isElectron: ak.values_astype(np.abs(part_pid) == 11, 'float32')
   part_d0: np.tanh(part_d0val)
   part_abseta: np.abs(part_deta + jet_eta)
preprocess:
   method: manual
   data_fraction:
inputs:
   pf_points:
      length: 6
      pad_mode: constant
      vars:
         - [part_deta, null]
         - [part_dphi, null]
   pf_features:
      length: 6
      pad_mode: constant
      vars:
         - [part_pt_log, 1.7, 0.7]
         - [part_e_log, 2.0, 0.7, -1, 1.5]
         - [part_logptrel, -4.7, 0.7]
         - [part_logerel, -4.7, 0.7]
         - [part_deltaR, 0.2, 4.0]
         - [part_abseta, 0.8, -2.0, -1, 3]
         - [part_isElectron, null]
         - part_d0
   pf_vectors:
      length: 6
      pad_mode: constant
      vars: [[part_px, null], [part_py, null], [part_energy, null]]
   pf_mask:
      length: 6
      pad_mode: constant
      vars: [[part_mask, null]]
   jets:
      length: 1
      vars: [[jet_pt, 500, 0.01, -2, 2], [jet_eta, null]]
labels:
   type: simple
   value: [label_QCD, label_Hbb, label_Tbqq]
observers: [jet_energy]
weights:
"""


def jets(path: Path, size: int = 300) -> ak.Array:
    """A file of jets with particles, as those of JetClass; also the arrays in it."""
    random = np.random.default_rng(7)
    counts = random.integers(0, 10, size)
    total = int(counts.sum())
    truth = random.integers(0, 3, size)
    flat = {
        "jet_pt": random.uniform(100, 1000, size).astype(np.float32),
        "jet_eta": random.normal(0, 1, size).astype(np.float32),
        "jet_energy": random.uniform(500, 2000, size).astype(np.float32),
        "genweight": random.uniform(0.5, 1.5, size).astype(np.float32),
        "label_QCD": (truth == 0).astype(np.int32),
        "label_Hbb": truth == 1,
        "label_Tbqq": (truth == 2).astype(np.float32),
    }
    each = {f"part_{name}": random.normal(0, 20, total) for name in ("px", "py")} | {
        "part_energy": random.exponential(50, total),
        "part_deta": random.normal(0, 0.4, total),
        "part_dphi": random.normal(0, 0.4, total),
        "part_d0val": np.where(random.random(total) < 0.1, np.nan, random.normal(0, 2, total)),
    }
    lists = {name: ak.unflatten(v.astype(np.float32), counts) for name, v in each.items()}
    pid = random.choice([11, -11, 22, 211, -211], total).astype(np.int32)
    arrays = flat | lists | {"part_pid": ak.unflatten(pid, counts)}
    with uproot.recreate(path) as file:
        file.mktree("tree", {name: ak.type(ak.Array(a)).content for name, a in arrays.items()})
        file["tree"].extend(arrays)
    return ak.Array(arrays)


def clipped(values: Any, low: float, high: float) -> Any:
    """``np.clip``, which takes no jagged arrays."""
    return ak.where(values < low, low, ak.where(values > high, high, values))
