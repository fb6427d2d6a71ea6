"""Work shared out to threads: each item once, the errors of any of them, none left behind."""

from __future__ import annotations

import threading
import time

import pytest

from hepdata_adapters.common.core.threads import default_threads, shared_out


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_each_item_once_and_in_order(threads: int, count: int) -> None:
    done = []

    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        done.append(item)
        return item * item

    assert shared_out(work, range(count), threads) == [item * item for item in range(count)]
    assert sorted(done) == list(range(count))
    assert not [one for one in threading.enumerate() if one.name.startswith("hepdata")]


def test_it_is_done_by_so_many_threads() -> None:
    names, gate = set(), threading.Barrier(3, timeout=30)

    def work(_: int) -> None:
        gate.wait()  # all three are here at once, or the barrier breaks
        names.add(threading.current_thread().name)

    shared_out(work, range(3), threads=3)
    assert len(names) == 3
    assert threading.current_thread().name in names


def test_after_an_error_nothing_new_is_begun() -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)
        raise ValueError(str(item))

    with pytest.raises(ValueError, match=r"[01]"):
        shared_out(work, range(50), threads=2)
    assert len(begun) <= 3


def test_a_worker_process_has_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_threads() >= 1
    monkeypatch.setattr("multiprocessing.parent_process", lambda: object())
    assert default_threads() == 1
