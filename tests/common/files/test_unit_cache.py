"""What of an epoch is kept: recent units within bounds, and for later epochs what came first."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.files.decoded_cache import DecodedCache
from hepdata_adapters.common.files.unit_cache import MemoryUnits, RecentUnits, UnitCache, UnitKey

FILE = SimpleNamespace(url="a.root", tree="Events", units=np.arange(0, 1000, 10))


def key(number: int, branches: tuple[str, ...] = ("x",)) -> UnitKey:
    return UnitKey(FILE, number, branches)


def unit(number: int, size: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.full(size, number, np.float64)}


def test_a_pass_over_more_than_fits_finds_what_fitted() -> None:
    """What was used last is never what the next epoch begins with."""
    memory, recent = MemoryUnits(80), RecentUnits(DecodedCache(80))
    for _ in range(3):
        hits = {"memory": 0, "recent": 0}
        for number in range(20):
            for name, cache in (("memory", memory), ("recent", recent)):
                if cache.get(key(number)) is not None:
                    hits[name] += 1
                else:
                    cache.keep(key(number), unit(number))
    assert hits == {"memory": 10, "recent": 0}
    assert memory.held == recent.held == 80


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=60), st.integers(0, 200))
def test_bounds_hold_and_no_unit_is_taken_for_another(uses, limit) -> None:
    recent, memory = RecentUnits(DecodedCache(limit)), MemoryUnits(limit)
    cache = UnitCache(recent, memory)
    sizes: dict[int, int] = {}
    for number, size in uses:
        found = cache.get(key(number))
        if found is None:
            sizes[number] = size
            cache.keep(key(number), found := unit(number, size))
        assert found["x"].tolist() == [number] * sizes[number]
        assert memory.held <= limit
        assert recent.held <= limit or len(recent._cache._kept) == 1
    assert memory.held == sum(columns["x"].nbytes for columns in memory._kept.values())


def test_other_columns_of_a_unit_are_another_unit() -> None:
    memory = MemoryUnits(100)
    memory.keep(key(0, ("x",)), unit(1))
    assert memory.get(key(0, ("x", "y"))) is None
    assert memory.get(key(1, ("x",))) is None


def test_what_is_in_memory_is_not_counted_twice() -> None:
    recent = RecentUnits(DecodedCache(100))
    cache = UnitCache(recent, MemoryUnits(8))
    cache.keep(key(0), unit(0))
    assert recent.held == 0
    cache.keep(key(1), unit(1))
    assert recent.held == 8
    assert cache.get(key(0)) is not None
    assert recent.held == 8


def test_a_column_does_not_keep_a_larger_page_alive() -> None:
    page, offsets = np.arange(1e6), np.array([0, 4, 9])
    lists = {name: Jagged(page[:9], offsets) for name in ("pt", "eta")}
    memory = MemoryUnits(10_000)
    memory.keep(key(0), lists | {"MET": page[5:7]})
    found = memory.get(key(0))
    assert all(part.base is None for part in (found["pt"].content, found["MET"]))
    assert found["pt"].offsets is found["eta"].offsets
    assert found["eta"].to_lists() == lists["eta"].to_lists()
    assert found["MET"].tolist() == [5, 6]
    assert memory.held == 2 * 72 + 24 + 16


def test_threads_may_share_it() -> None:
    recent, memory = RecentUnits(DecodedCache(200)), MemoryUnits(200)
    cache, wrong = UnitCache(recent, memory), []

    def work(seed: int) -> None:
        for number in np.random.default_rng(seed).integers(0, 90, 3000).tolist():
            found = cache.get(key(number))
            if found is None:
                cache.keep(key(number), unit(number))
            elif found["x"][0] != number:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert memory.held == 8 * len(memory._kept) == 200
    assert recent.held == 8 * len(recent._cache._kept) <= 200
