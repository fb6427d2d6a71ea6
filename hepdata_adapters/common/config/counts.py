"""Counts in a config, with the bounds within which they make sense on any machine.

What this machine can carry is checked where it is taken, see `machine`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

MOST_EVENTS, MOST_STREAMS, MOST_PROCESSES = 2**24, 4096, 1024
MOST_EPOCHS, MOST_FOLDS, MOST_THREADS = 1_000_000, 1000, 4096
MOST_WEIGHTS = 10**9


def _at_most(most: int, why: str) -> Callable[[int], int]:
    def check(count: int) -> int:
        if count > most:
            raise ValueError(f"at most {most:,}, not {str(count)[:20]}: {why}")
        return count

    return check


Events = Annotated[
    int,
    AfterValidator(_at_most(MOST_EVENTS, "so many events are held in memory at once")),
    Field(json_schema_extra={"maximum": MOST_EVENTS}),
]
Streams = Annotated[
    int,
    AfterValidator(_at_most(MOST_STREAMS, "each stream holds a chunk of events in memory")),
    Field(json_schema_extra={"maximum": MOST_STREAMS}),
]
Processes = Annotated[
    int,
    AfterValidator(_at_most(MOST_PROCESSES, "each is a process of about 0.3 GB")),
    Field(json_schema_extra={"maximum": MOST_PROCESSES}),
]
Threads = Annotated[
    int,
    Field(ge=1),
    AfterValidator(_at_most(MOST_THREADS, "no machine has so many cores")),
    Field(json_schema_extra={"maximum": MOST_THREADS}),
]
Epochs = Annotated[
    int,
    AfterValidator(_at_most(MOST_EPOCHS, "no training takes so many epochs")),
    Field(json_schema_extra={"maximum": MOST_EPOCHS}),
]
Folds = Annotated[
    int,
    AfterValidator(_at_most(MOST_FOLDS, "each fold is a training of its own")),
    Field(json_schema_extra={"maximum": MOST_FOLDS}),
]
