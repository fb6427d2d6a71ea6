"""The part of the configuration on the network and its training."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hepdata_adapters.common.config.counts import MOST_WEIGHTS, Epochs, Events, Processes, Threads
from hepdata_adapters.common.core.frozen_model import FrozenModel


class ModelConfig(FrozenModel):
    """The network: the paper's by default, or the user's ``factory(num_features)``.

    factory: ``package.module:function`` or ``file.py:function``. Where the config has inputs, it
    gets the shapes of an event by name, such as ``{"jets": (10, 4), "jets_mask": (10,)}``, and
    its model takes a dict of tensors with these names; ``num_outputs`` is passed if it is asked
    for.
    """

    factory: str | None = None
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (128, 64)
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)

    @field_validator("hidden")
    @classmethod
    def _fits(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        if sum(low * high for low, high in itertools.pairwise((1, *hidden))) > MOST_WEIGHTS:
            raise ValueError(
                f"these layers have more than {MOST_WEIGHTS:,} weights, "
                f"{16 * MOST_WEIGHTS // 10**9} GB of memory in training"
            )
        return hidden


class TrainingConfig(FrozenModel):
    """How to train.

    workers: processes per split. drop_last: without a short last batch. threads: that compute a
    step; ``auto`` takes as many as have enough to do.
    """

    epochs: Epochs = Field(default=60, ge=1)
    batch_size: Events = Field(default=128, ge=1)
    drop_last: bool = False
    learning_rate: float = Field(default=1e-3, gt=0.0, allow_inf_nan=False)
    weight_decay: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    patience: Epochs = Field(default=10, ge=1)
    workers: Processes = Field(default=0, ge=0)
    threads: Threads | Literal["auto"] = "auto"
    accelerator: str = "auto"
    devices: Processes = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
