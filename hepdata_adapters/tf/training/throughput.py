"""The ``tf.data`` pipeline and the training of Keras, for `hepdata-adapters bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from hepdata_adapters.common.config.dataset_config import RunConfig
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.runs.run_folder import num_outputs, output_names
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.tf.data.dataset import RootSource
from hepdata_adapters.tf.training.models import build_model, build_scorer, model_inputs
from hepdata_adapters.tf.training.train import compile_model

HELD = 16  # batches: enough that they are not all in a processor's cache
ENDLESS = 10**6  # epochs


class KerasRig:
    """The training split of a dataset, and the model of a config; see `Rig`.

    Raises ConfigError for a model that cannot be built, but for one that the config does not name.
    """

    def __init__(self, prepared: Dataset, config: RunConfig) -> None:
        self._config, self._prepared = config, prepared
        self._held: Any = None
        self._net: keras.Model | None = None
        self.no_step = "" if prepared.layout.task else "no sample has a label"
        if not self.no_step:
            try:
                self._net = self._build()
            except ConfigError as error:
                if config.model.factory:
                    raise
                self.no_step = str(error)

    def batches(self, workers: int) -> Iterator[tuple[int, int]]:
        """Rows and bytes of the training batches, epoch after epoch, without end."""
        source = self._source(workers)
        dataset = source.dataset()
        with _own_errors(source):
            while True:
                for batch in dataset:
                    sizes = (values.dtype.size * int(tf.size(values)) for values in batch.values())
                    yield int(batch["event"].shape[0]), sum(sizes)

    def hold(self) -> None:
        """Keep some batches."""
        source = self._source(0)
        with _own_errors(source):
            batches = list(source.dataset("tuple").take(HELD))
        size = batches[0][2].shape[0]
        whole = [batch for batch in batches if batch[2].shape[0] == size]
        stacked = tf.nest.map_structure(lambda *values: tf.stack(values), *whole)
        self._held = tf.data.Dataset.from_tensor_slices(stacked).repeat()

    def train(self, count: Callable[[int], bool], workers: int | None) -> None:
        """``Model.fit`` until ``count`` of the rows of a batch is True."""
        if self._net is None:
            raise ConfigError(self.no_step)
        size, events = self._config.training.batch_size, self._prepared.events("train")
        if workers is None:
            rows = min(size, events)
            self._net.fit(
                self._held, epochs=1, steps_per_epoch=10**9, verbose=0, shuffle=False,
                callbacks=[_Count(count, lambda _: rows)],
            )  # fmt: skip
            return
        source = self._source(workers)
        with _own_errors(source):
            self._net.fit(
                source.dataset("tuple"), epochs=ENDLESS, verbose=0, shuffle=False,
                callbacks=[_Count(count, lambda batch: min(size, events - batch * size))],
            )  # fmt: skip

    def _source(self, workers: int) -> RootSource:
        training = self._config.training
        return RootSource(
            self._prepared, batch_size=training.batch_size, split="train", num_workers=workers,
            progress=False, rank=0, world_size=1, drop_last=training.drop_last,
        )  # fmt: skip

    def _build(self) -> keras.Model:
        prepared, config = self._prepared, self._config
        task, names = prepared.layout.task, output_names(prepared)
        if task is None:
            raise ConfigError("no sample has a label")
        keras.utils.set_random_seed(config.training.seed)
        inputs = model_inputs(prepared.transform)
        net = build_model(config.model, inputs, num_outputs(task, len(names)))
        build_scorer(net, inputs, task)
        if not net.compiled:
            compile_model(net, task, config.training)
        return net


@contextmanager
def _own_errors(source: RootSource) -> Iterator[None]:
    """Raise the source's own error rather than TensorFlow's account of it."""
    try:
        yield
    except tf.errors.OpError:
        if source.error:
            raise source.error from None
        raise


class _Count(keras.callbacks.Callback):
    """Ends the training when the measurement is over. rows: of a batch of this number."""

    def __init__(self, count: Callable[[int], bool], rows: Callable[[int], int]) -> None:
        super().__init__()
        self._count, self._rows, self._over = count, rows, False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._over = self._over or self._count(self._rows(batch))
        if self._over:
            self.model.stop_training = True


def rig(prepared: Dataset, config: RunConfig) -> KerasRig:
    """The rig of this framework."""
    return KerasRig(prepared, config)
