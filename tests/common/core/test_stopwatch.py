"""A stopwatch counts what its owner waits for, and nothing else."""

from __future__ import annotations

import time

import pytest

from hepdata_adapters.common.core.stopwatch import Stopwatch


def slow(count):
    for number in range(count):
        time.sleep(0.02)
        yield number


def test_it_counts_the_making_of_items_and_not_their_use():
    watch = Stopwatch()
    found = []
    for item in watch.timed(slow(3)):
        found.append(item)
        time.sleep(0.2)
    assert found == [0, 1, 2]
    assert 0.06 <= watch.seconds < 0.5


def test_it_counts_up_to_an_error_which_it_lets_through():
    def failing():
        yield from slow(1)
        time.sleep(0.02)
        raise ValueError("no more")

    watch = Stopwatch()
    with pytest.raises(ValueError, match="no more"):
        list(watch.timed(failing()))
    assert watch.seconds >= 0.04


def test_it_counts_blocks_and_adds_up():
    watch = Stopwatch()
    for _ in range(2):
        with watch:
            time.sleep(0.02)
    assert watch.seconds >= 0.04
