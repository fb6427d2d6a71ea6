"""Which stage a thread is in: from made-up stacks, from real modules, from running threads."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from importlib.util import find_spec
from types import FunctionType, ModuleType

import pytest

from hepdata_adapters.common.runs import stages
from hepdata_adapters.common.runs.frame_sampler import FrameSampler
from hepdata_adapters.common.runs.stages import (
    COMPILE,
    MEANING,
    READING,
    STAGES,
    TRAINING,
    WAITING,
    Frame,
    classify,
    stage_of,
)

OURS = "hepdata_adapters."
FILES = f"{OURS}common.files."
READ = Frame(f"{FILES}source", "read")
CHUNK = Frame(f"{OURS}common.stream.chunk_loader", "load")
AHEAD = Frame(f"{OURS}common.stream.read_ahead", "rows")
MODULE = Frame(f"{OURS}torch.training.event_module", "_step")
WAIT = Frame("threading", "wait")
USER = Frame("own", "root")


@pytest.mark.parametrize(
    ("frames", "stage"),
    [
        ([Frame(f"{FILES}handles", "read_into"), READ, CHUNK], "fetch"),
        ([WAIT, Frame("uproot.source.futures", "result"), READ, CHUNK], "fetch"),
        ([WAIT, Frame("fsspec.asyn", "sync"), READ, CHUNK], "fetch"),
        ([Frame(f"{FILES}compression", "uncompressed"), READ, CHUNK], "decompress"),
        ([Frame("uproot.compression", "decompress"), READ, CHUNK], "decompress"),
        ([Frame(f"{FILES}basket_reader", "_read_lists"), READ, CHUNK], "decode"),
        ([Frame(f"{OURS}common.core.threads", "take"), READ], "decode"),
        ([Frame("uproot.interpretation.jagged", "final_array"), READ], "decode"),
        ([Frame("awkward.operations", "num"), Frame(f"{OURS}common.expressions.walk", "f")],
         "columns"),
        ([Frame(f"{FILES}objects", "sort"), READ, CHUNK], "columns"),
        ([Frame(f"{OURS}common.events.selection", "cut"), CHUNK], "select"),
        ([Frame(f"{OURS}common.transform.vector_rows", "write"), CHUNK], "transform"),
        ([USER, Frame(f"{OURS}common.transform.scalings.registered", "_called"), CHUNK],
         "transform"),
        ([Frame(f"{OURS}common.core.columns", "take_all"), CHUNK], "shuffle"),
        ([Frame(f"{OURS}common.plan.plan", "order"), CHUNK], "shuffle"),
        ([Frame(f"{OURS}torch.data.convert", "to_tensors"), AHEAD], "hand over"),
        ([Frame("tensorflow.python.ops.script_ops", "_convert")], "hand over"),
        ([WAIT, AHEAD], WAITING),
        ([WAIT, Frame("concurrent.futures._base", "result"), AHEAD], WAITING),
        ([Frame("tensorflow.python.ops.gen_dataset_ops", "iterator_get_next"),
          Frame("tensorflow.python.data.ops.iterator_ops", "next")], WAITING),
        ([Frame("torch.nn.modules.linear", "forward"), MODULE], "forward"),
        ([Frame("torch.nn.modules.module", "_call_impl"), MODULE], "forward"),
        ([Frame("own", "forward"), Frame("torch.nn.modules.module", "_call_impl"), MODULE],
         "forward"),
        ([Frame("torch.autograd.graph", "_engine_run_backward"), Frame("torch.optim.adam", "step")],
         "backward"),
        ([Frame("torch.optim.adam", "step"), Frame("lightning.pytorch.trainer", "run")],
         "optimiser"),
        ([Frame("torch.nn.modules.module", "__setattr__"), Frame("torchmetrics.metric", "update"),
          MODULE], "metrics"),
        ([Frame("lightning.pytorch.loops.fit_loop", "advance")], "loop"),
        ([Frame("tensorflow.python.eager.execute", "quick_execute"), Frame("keras.src.x", "fit")],
         "graph"),
        ([Frame("numba.core.ssa", "reconstruct"), Frame(f"{FILES}basket_reader", "f")], COMPILE),
    ],
)  # fmt: skip
def test_the_innermost_known_function_decides(frames, stage):
    seen = classify(frames)
    assert seen is not None
    assert seen.stage == stage


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [Frame("concurrent.futures.thread", "_worker"), Frame("threading", "run")],
        [WAIT, Frame("queue", "get"), Frame("uproot.source.futures", "run")],
        [Frame("selectors", "select"), Frame("asyncio.base_events", "run_forever")],
        [Frame("__main__", "main")],
    ],
)
def test_threads_that_do_nothing_of_it_are_left_out(frames):
    assert classify(frames) is None


def test_the_function_of_the_user_is_named_where_it_is_to_blame():
    called = Frame(f"{OURS}common.transform.scalings.registered", "_called")
    seen = classify([Frame("numpy", "sqrt"), Frame("helpers", "inner"), USER, called, CHUNK])
    assert (seen.stage, str(seen.inside), seen.foreign) == ("transform", "own.root", True)
    ours = classify([Frame("numpy", "sqrt"), called, CHUNK])
    assert (ours.inside, ours.foreign) == (called, False)


def test_every_stage_has_a_meaning_and_every_room_of_reading_a_stage():
    assert set(MEANING) == set(STAGES) == {*READING, *TRAINING, COMPILE, WAITING}
    for room in ("files", "expressions", "events", "transform", "plan", "stream"):
        assert stage_of(f"{OURS}common.{room}"), room


@pytest.mark.parametrize("name", [*stages._MODULES, *stages._PASSED, stages._NEXT_BATCH[0]])
def test_what_is_looked_for_is_there(name):
    """A module that is renamed, here or elsewhere, must not silently change its stage."""
    top = name.partition(".")[0]
    if find_spec(top) is None:
        pytest.skip(f"{top} is not installed")
    assert find_spec(name) is not None


def module_function(module: str, code: str) -> FunctionType:
    """A function ``work`` of a module of this name."""
    made = ModuleType(module)
    exec(code, vars(made))
    return made.work


# a decompressor that lets go of the lock, and as long a loop that holds it
LOCKED = "def work(n):\n    for _ in range(n): pass\n"
FREE = "import hashlib\ndef work(data):\n    hashlib.sha256(data).digest()\n"


def test_short_work_that_holds_the_lock_is_seen_beside_work_that_does_not():
    """With Python's own switch interval nothing of it would be."""
    locked = module_function(f"{OURS}common.events.made_up", LOCKED)
    free = module_function(f"{FILES}compression", FREE)
    data, loops = b"0" * 600_000, 20_000
    spent: Counter[str] = Counter()
    with FrameSampler(0.002) as sampler:
        end = time.perf_counter() + 1.5
        while (begun := time.perf_counter()) < end:
            free(data)
            middle = time.perf_counter()
            locked(loops)
            spent["decompress"] += middle - begun
            spent["select"] += time.perf_counter() - middle
    seen = {found.stage: seconds for found, seconds in sampler.seconds.items()}
    assert hashlib.sha256  # what FREE calls
    assert set(seen) == {"decompress", "select"}
    share, true = (part["select"] / sum(part.values()) for part in (seen, spent))
    assert 0.5 * true < share < 1.5 * true
    assert sum(seen.values()) == pytest.approx(1.5, rel=0.2)


def test_threads_count_each_and_those_that_wait_count_as_waiting():
    gate = threading.Event()
    work = module_function(
        f"{OURS}common.stream.made_up", "def work(gate):\n    return gate.wait(0.6)\n"
    )
    threads = [threading.Thread(target=work, args=(gate,)) for _ in range(3)]
    with FrameSampler() as sampler:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {seen.stage for seen in sampler.seconds} == {WAITING}
    assert sampler.waiting == pytest.approx(1.8, rel=0.3)
