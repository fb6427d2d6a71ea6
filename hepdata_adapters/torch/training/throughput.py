"""PyTorch's loader and Lightning's training, for `hepdata-adapters bench`."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.runs.run_folder import num_outputs, output_names
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.torch.data.convert import TensorBatch
from hepdata_adapters.torch.data.dataset import RootIterableDataset
from hepdata_adapters.torch.training.event_module import EventModule
from hepdata_adapters.torch.training.models import build_model

HELD = 16  # batches: enough that they are not all in a processor's cache


class TorchRig:
    """The training split of a dataset, and the model of a config; see `Rig`.

    Raises ConfigError for a model that cannot be built, but for one that the config does not name.
    """

    def __init__(self, prepared: Dataset, config: RunConfig) -> None:
        training = config.training
        self._config, self._prepared = config, prepared
        self._dataset = RootIterableDataset(
            prepared, split="train", batch_size=training.batch_size,
            drop_last=training.drop_last, progress=False,
        )  # fmt: skip
        self._held: list[TensorBatch] = []
        self._module: EventModule | None = None
        self.no_step = "" if prepared.layout.task else "no sample has a label"
        if not self.no_step:
            try:
                self._module = self._build()
            except ConfigError as error:
                if config.model.factory:
                    raise
                self.no_step = str(error)

    def batches(self, workers: int) -> Iterator[tuple[int, int]]:
        """Rows and bytes of the training batches, epoch after epoch, without end."""
        loader = self._dataset.loader(num_workers=workers)
        while True:
            for batch in loader:
                sizes = (values.numel() * values.element_size() for values in batch.values())
                yield len(batch["event"]), sum(sizes)

    def hold(self) -> None:
        """Keep copies of some batches."""
        self._held = [
            {name: values.clone() for name, values in batch.items()}
            for batch in islice(self._dataset.loader(), HELD)
        ]

    def train(self, count: Callable[[int], bool], workers: int | None) -> None:
        """``Trainer.fit`` until ``count`` of the rows of a batch is True."""
        if self._module is None:
            raise ConfigError(self.no_step)
        batches: Iterable[TensorBatch] = (
            _Endless(self._held) if workers is None else self._dataset.loader(num_workers=workers)
        )
        training = self._config.training
        torch.set_float32_matmul_precision("high")  # as `fit` does
        log = logging.getLogger("lightning.pytorch")
        level = log.level
        log.setLevel(logging.WARNING)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # advice on settings that are measured here, and on what is not of a training
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(
                max_epochs=-1, accelerator=training.accelerator, devices=1, logger=False,
                callbacks=[_Count(count)], enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, num_sanity_val_steps=0, default_root_dir=folder,
            )  # fmt: skip
            trainer.fit(self._module, batches)
        log.setLevel(level)

    def _build(self) -> EventModule:
        prepared, training = self._prepared, self._config.training
        task, names = prepared.layout.task, output_names(prepared)
        if task is None:
            raise ConfigError("no sample has a label")
        lightning.seed_everything(training.seed, verbose=False)
        outputs = num_outputs(task, len(names))
        net = build_model(self._config.model, prepared.transform.model_shape, outputs)
        return EventModule(
            net, task, num_classes=len(names), inputs=prepared.transform.model_inputs,
            learning_rate=training.learning_rate, weight_decay=training.weight_decay,
        )  # fmt: skip


class _Endless:
    """The same batches again and again."""

    def __init__(self, batches: list[TensorBatch]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[TensorBatch]:
        return cycle(self._batches)


class _Count(Callback):
    """Ends the training when the measurement is over."""

    def __init__(self, count: Callable[[int], bool]) -> None:
        self._count = count

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._count(len(batch["weight"])):
            trainer.should_stop = True


def rig(prepared: Dataset, config: RunConfig) -> TorchRig:
    """The rig of this framework."""
    return TorchRig(prepared, config)
