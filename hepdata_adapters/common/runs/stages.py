"""Which stage of reading or training a thread is in, told from the functions that it is in.

Nothing is measured in the code itself. A kernel or a decompressor that has released the
interpreter lock is seen as the Python function that called it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

READING = (
    "fetch", "decompress", "decode", "columns", "select", "transform", "shuffle", "hand over",
)  # fmt: skip
"""Stages of reading, in the order in which an event comes through them."""
TRAINING = ("forward", "backward", "optimiser", "metrics", "graph", "loop")
"""Stages of a training step; ``graph`` is all that TensorFlow does in one call."""
COMPILE, WAITING = "compile", "waiting"
STAGES = (*READING, *TRAINING, COMPILE, WAITING)
MEANING = {
    "fetch": "bytes of the files: disk, page cache, network",
    "decompress": "baskets and pages uncompressed",
    "decode": "their bytes to columns",
    "columns": "derived columns, objects cut and sorted",
    "select": "selection, split, labels, weights",
    "transform": "scaling, padding, masks, inputs of the model",
    "shuffle": "chunks mixed, cut into batches",
    "hand over": "arrays to tensors",
    "forward": "network and loss",
    "backward": "gradients",
    "optimiser": "weights changed",
    "metrics": "losses and metrics added up and logged",
    "graph": "forward, backward and optimiser in one call",
    "loop": "the training loop of the framework around them",
    COMPILE: "kernels made on their first call",
    WAITING: "for chunks or batches that others make",
}

_OURS = "hepdata_adapters."
_FILES = f"{_OURS}common.files."
# the longest name that a module begins with counts
_MODULES = {
    **dict.fromkeys(
        (
            f"{_FILES}handles", f"{_FILES}open", f"{_FILES}http", f"{_FILES}content",
            f"{_FILES}local_path", "uproot.source", "uproot.sink", "fsspec", "fsspec_xrootd",
            "XRootD", "aiohttp", "s3fs", "botocore", "aiobotocore",
        ),
        "fetch",
    ),
    **dict.fromkeys((f"{_FILES}compression", "uproot.compression"), "decompress"),
    **dict.fromkeys((_FILES[:-1], "uproot"), "decode"),
    **dict.fromkeys(
        (
            f"{_OURS}common.expressions", f"{_FILES}derived_columns", f"{_FILES}objects",
            f"{_FILES}preparation", f"{_FILES}count_branches", f"{_FILES}shared_counts",
        ),
        "columns",
    ),
    f"{_OURS}common.events": "select",
    f"{_OURS}common.transform": "transform",
    **dict.fromkeys((f"{_OURS}common.plan", f"{_OURS}common.stream"), "shuffle"),
    **dict.fromkeys(
        (
            f"{_OURS}torch.data", f"{_OURS}tf.data", "tensorflow.python.ops.script_ops",
            "tensorflow.python.data",
        ),
        "hand over",
    ),
    **dict.fromkeys((f"{_OURS}torch.training", "torch.nn"), "forward"),
    "torch.autograd": "backward",
    "torch.optim": "optimiser",
    **dict.fromkeys(("torchmetrics", "lightning.pytorch.trainer.connectors.logger_connector"),
                    "metrics"),
    **dict.fromkeys(("lightning", "keras", f"{_OURS}tf.training"), "loop"),
    "tensorflow.python.eager": "graph",
    **dict.fromkeys(("numba.core", "numba.np", "llvmlite"), COMPILE),
}  # fmt: skip
# helpers, which work for whoever called them
_PASSED = (
    "torch.nn.modules.module", "torch.autograd.profiler", f"{_OURS}common.core",
    f"{_OURS}torch.training.throughput", f"{_OURS}tf.training.throughput",
)  # fmt: skip
_BLOCKED = {"threading", "queue", "selectors", "concurrent.futures._base"}
"""Modules whose functions wait for other threads."""
_OF_USERS = {"columns", "select", "transform"}
"""Stages that run functions of the user's."""
_NEXT_BATCH = ("tensorflow.python.ops.gen_dataset_ops", "iterator_get_next")
_IDLE = ("uproot.source.futures", "run")
_LIBRARIES = {"numpy", "numba", "awkward"}


class Frame(NamedTuple):
    """A function that a thread is in: the name of its module, and its own."""

    module: str
    function: str

    def __str__(self) -> str:
        return f"{self.module}.{self.function}"


class Seen(NamedTuple):
    """Where a thread is. inside: the function of the stage, or what it called of somebody else."""

    stage: str
    inside: Frame

    @property
    def foreign(self) -> bool:
        """Whether that function is the user's, as those are that scale features."""
        return self.stage in _OF_USERS and stage_of(self.inside.module) is None


def stage_of(module: str) -> str | None:
    """The stage that a module belongs to.

    >>> stage_of("hepdata_adapters.common.files.compression"), stage_of("uproot.source.chunk")
    ('decompress', 'fetch')
    >>> stage_of("numpy") is None
    True
    """
    if module not in _found:
        _found[module] = _longest(module)
    return _found[module]


_found: dict[str, str | None] = {}


def _longest(module: str) -> str | None:
    if any(_inside(module, name) for name in _PASSED):
        return None
    names = [name for name in _MODULES if _inside(module, name)]
    return _MODULES[max(names, key=len)] if names else None


def _inside(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")


def classify(frames: Iterable[Frame]) -> Seen | None:
    """Where a thread is whose functions are ``frames``, the innermost first.

    The innermost function of a known module decides. None for a thread that has nothing to do
    with reading or training, or that waits to be given something to do.

    >>> kernel = Frame("hepdata_adapters.common.transform.vector_rows", "write")
    >>> chunk = Frame("hepdata_adapters.common.stream.chunk_loader", "load")
    >>> classify([kernel, chunk]).stage, classify([chunk]).stage
    ('transform', 'shuffle')
    >>> classify([Frame("threading", "wait"), chunk]).stage
    'waiting'
    """
    passed: list[Frame] = []
    for frame in frames:
        if frame == _NEXT_BATCH:
            return Seen(WAITING, frame)
        stage = stage_of(frame.module)
        if stage is None:
            passed.append(frame)
            continue
        blocked = bool(passed) and passed[0].module in _BLOCKED
        if blocked and frame == _IDLE:
            return None
        if blocked and stage != "fetch":  # who waits for storage fetches
            return Seen(WAITING, frame)
        return Seen(stage, _called(frame, passed))
    return None


def _called(frame: Frame, passed: Sequence[Frame]) -> Frame:
    """The function that the known one called, if that is neither Python's nor numpy's nor ours."""
    for inner in reversed(passed):
        top = inner.module.partition(".")[0]
        known = top in sys.stdlib_module_names or top in _LIBRARIES or top == "hepdata_adapters"
        if not known and inner.module not in _PASSED:
            return inner
    return frame
