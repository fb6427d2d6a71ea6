"""What is measured. Another variant, such as a setting of ours, is one more entry here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Environment = Literal["ours", "root", "weaver", "f9columnar"]
Kind = Literal["ours", "rival", "bound", "specs"]
PAPER = ("tree", "ntuple", "cached", "nano", "lz4", "zlib", "lzma")
LARGE = ("tree", "ntuple", "nano")
WIDE = ("wide-ttree-one", "wide-ttree-small", "wide-rntuple-one", "wide-rntuple-small")
FEW = 4  # files of ten for the slowest
BASE = "root"
"""The system that ratios are to."""
SCRATCH = "{scratch}"
"""In options: a folder that is empty when a process begins, and removed when it has ended."""


@dataclass(frozen=True)
class System:
    """A way to make batches. module: of `benchmarks.speed.loops`. cores: it may use, 0 for all.

    options: what its module takes. files: at most so many of a workload, 0 for all: what keeps
    nothing from epoch to epoch is as fast on fewer.
    """

    key: str
    title: str
    kind: Kind
    module: str
    environment: Environment = "ours"
    options: dict[str, Any] = field(default_factory=dict)
    workloads: tuple[str, ...] = PAPER
    cores: int = 0
    files: int = 0

    @property
    def checked(self) -> bool:
        """Whether it delivers rows that can be compared."""
        return self.kind in ("ours", "rival")


def _torch(workers: int, **more: Any) -> dict[str, Any]:
    return {"num_workers": workers, "dataset": more}


_WEAVER: dict[str, Any] = {"fetch_by_files": True, "fetch_step": 1}
SYSTEMS = (
    System("torch-0", "ours, PyTorch, in process", "ours", "ours_torch", options=_torch(0),
           workloads=PAPER + WIDE),
    System("torch-0-core", "ours, PyTorch, in process, one core", "ours", "ours_torch",
           options=_torch(0), workloads=LARGE, cores=1),
    System("torch-memory", "ours, PyTorch, columns kept in memory", "ours", "ours_torch",
           options=_torch(0, reading={"cache": "memory", "cache_limit": "3 GiB"}),
           workloads=("tree",)),
    System("torch-disk", "ours, PyTorch, columns kept on disk", "ours", "ours_torch",
           options=_torch(0, reading={"cache": SCRATCH + "/cache"}), workloads=("tree",)),
    System("torch-1", "ours, PyTorch, 1 worker", "ours", "ours_torch", options=_torch(1),
           workloads=(*LARGE, "cached")),
    System("torch-2", "ours, PyTorch, 2 workers", "ours", "ours_torch", options=_torch(2),
           workloads=(*LARGE, "cached")),
    System("tf-0", "ours, tf.data, in process", "ours", "ours_tf", options=_torch(0),
           workloads=(*LARGE, "cached")),
    System("tf-2", "ours, tf.data, 2 workers", "ours", "ours_tf", options=_torch(2),
           workloads=("tree", "cached")),
    System("root", "ROOT RDataLoader", "rival", "root", "root", workloads=PAPER + WIDE),
    System("root-core", "ROOT RDataLoader, one core", "rival", "root", "root", workloads=LARGE,
           cores=1),
    System("weaver-0", "weaver-core, in process", "rival", "weaver", "weaver",
           options=_torch(0, **_WEAVER), workloads=(*LARGE, "cached"), files=FEW),
    System("weaver-2", "weaver-core, 2 workers", "rival", "weaver", "weaver",
           options=_torch(2, **_WEAVER), workloads=LARGE, files=FEW),
    System("f9columnar-0", "F9Columnar, in process", "rival", "f9columnar", "f9columnar",
           options={"num_workers": 0, "step_size": 20_000}, workloads=(*LARGE, "cached"),
           files=FEW),
    System("f9columnar-2", "F9Columnar, 2 workers", "rival", "f9columnar", "f9columnar",
           options={"num_workers": 2, "step_size": 20_000}, workloads=LARGE, files=FEW),
    System("by-hand", "uproot + awkward by hand", "rival", "by_hand",
           options={"step_size": 20_000}, files=FEW),
    System("decompression-1", "bare decompression, 1 thread", "bound", "decompression",
           options={"threads": 1}),
    System("decompression-2", "bare decompression, 2 threads", "bound", "decompression",
           options={"threads": 2}),
    System("specs-1", "our specs pass, 1 process", "specs", "ours_specs",
           options={"processes": 1}, workloads=LARGE + WIDE),
    System("specs-2", "our specs pass, 2 processes", "specs", "ours_specs",
           options={"processes": 2}, workloads=LARGE),
)  # fmt: skip
