"""``fit`` with Keras: from a config to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from hepdata_adapters.common.config.dataset_config import RunConfig, Task
from hepdata_adapters.common.config.training_config import TrainingConfig
from hepdata_adapters.common.core.errors import ConfigError, HepDataError
from hepdata_adapters.common.core.ledger import Ledger
from hepdata_adapters.common.core.progress import progress_bar
from hepdata_adapters.common.events.split import SplitName
from hepdata_adapters.common.runs.evaluate import evaluate_run
from hepdata_adapters.common.runs.signals import Signals
from hepdata_adapters.common.runs.throughput import BESIDE
from hepdata_adapters.common.runs.training import (
    EpochLog,
    TrainingJob,
    ledger_kept,
    prepare_job,
    resumed_job,
)
from hepdata_adapters.tf.data.dataset import RootSource
from hepdata_adapters.tf.training.interruptible import RESUME, Resumable, forget, read_state
from hepdata_adapters.tf.training.losses import EventLoss, difference
from hepdata_adapters.tf.training.models import (
    build_model,
    build_scorer,
    gives_probabilities,
    model_inputs,
)
from hepdata_adapters.tf.training.run_folder import WEIGHTS, load_run


def fit(config: RunConfig, folder: str | Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Train, evaluate and draw; everything goes to ``folder``. Returns the metrics.

    A model that the user's factory has compiled keeps its own loss, optimizer and metrics.

    Raises ConfigError if the folder holds something already, or if there are no labels,
    HepDataError if the loss is never a number.
    """
    _check_devices(config)
    return _fit(prepare_job(config, folder, overwrite=overwrite))


def resume(folder: str | Path) -> dict[str, Any]:
    """Go on with a training that was broken off, at the epoch it was in; returns the metrics.

    Raises ConfigError where there is nothing to go on with, SpecsError where the data changed.
    """
    job = resumed_job(folder, "tf", RESUME)
    return _fit(job, read_state(job.folder))


def _check_devices(config: RunConfig) -> None:
    if config.training.devices > 1:
        raise ConfigError(
            "training.devices is for torch; for Keras on several devices use tf.distribute "
            "with hepdata_adapters.tf.root_dataset(..., input_context=...)"
        )


def _fit(job: TrainingJob, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """state: of the training to go on with."""
    prepared, training = job.prepared, job.config.training
    _set_threads(job)
    keras.utils.set_random_seed(training.seed)
    inputs = model_inputs(prepared.transform)
    net = build_model(job.config.model, inputs, job.num_outputs)
    build_scorer(net, inputs, job.task)  # refuses outputs of a wrong shape before the work
    if net.compiled:
        for line in _own(net):
            job.console.print(line, highlight=False, soft_wrap=True)
    else:
        compile_model(net, job.task, training)
    sources: dict[SplitName, RootSource] = {
        split: RootSource(
            prepared, batch_size=training.batch_size, split=split, shuffle=split == "train",
            num_workers=training.workers, progress=False, rank=0, world_size=1,
            drop_last=training.drop_last and split == "train",
        )
        for split in ("train", "validation") if prepared.specs.events(split)
    }  # fmt: skip
    console = job.console
    with progress_bar("training", shown=console.is_terminal, console=console) as report:
        reader = sources["train"]
        log = EpochLog(job, report, lambda: reader.seconds_reading, BESIDE)
        with ledger_kept(job.folder, lambda: _ledger(job, sources)):
            _train(job, net, sources, log, state)
    log.say_limit()
    ledger = _ledger(job, sources)
    metrics = evaluate_run(load_run(job.folder), prepared, log.summary(), ledger)
    forget(job.folder)
    return metrics


def _set_threads(job: TrainingJob) -> None:
    """Threads of an operation, where the config says how many and TensorFlow has not begun."""
    asked = job.config.training.threads
    if asked == "auto":
        return  # its pool does not spin: it was measured that its own choice costs little
    try:
        tf.config.threading.set_intra_op_parallelism_threads(asked)
    except RuntimeError:
        job.tell(
            "training.threads has no effect, as TensorFlow has begun to work in this process: call "
            "tf.config.threading.set_intra_op_parallelism_threads before"
        )


def _ledger(job: TrainingJob, sources: dict[SplitName, RootSource]) -> Ledger:
    """What happened to the events of all splits so far."""
    total = job.prepared.notes()
    for source in sources.values():
        total.merge(source.delivery)
    return total


class EpochLines(keras.callbacks.Callback):
    """Tells an `EpochLog` what Keras does."""

    def __init__(self, log: EpochLog, batch_size: int, events: int) -> None:
        super().__init__()
        self._log, self._batch_size, self._events = log, batch_size, events

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._log.start()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._log.batch(min(self._batch_size, self._events - batch * self._batch_size))

    def on_test_begin(self, logs: Any = None) -> None:
        self._log.pause()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        values = {"train_loss": logs["loss"]}
        values |= {
            f"validation_{name.removeprefix('val_')}": value
            for name, value in logs.items()
            if name.startswith("val_")
        }
        self._log.finish(values)


def _own(net: keras.Model) -> list[str]:
    """What is said of a model that the user has compiled."""
    lines = ["the model is compiled already: its own loss and optimizer are used"]
    half = {"float16", "bfloat16"} & {str(out.dtype) for out in getattr(net, "outputs", None) or ()}
    if half:
        lines.append(
            f"  it gives {half.pop()}, to which Keras rounds the targets of metrics: give its last "
            f"layer dtype='float32'"
        )
    return lines


def compile_model(net: keras.Model, task: Task, training: TrainingConfig) -> None:
    """Give a network the loss, optimizer and metrics of its task."""
    logits = not gives_probabilities(net, task)
    optimizer = keras.optimizers.Adam(
        training.learning_rate,
        # AdamW's decoupled decay, where PyTorch's Adam adds it to the gradient
        weight_decay=training.weight_decay or None,
    )
    net.compile(
        optimizer,
        loss=EventLoss(task, from_logits=logits),
        metrics=_metrics(task, logits),
        jit_compile=False,  # the last batch has another shape, and compiling costs seconds
    )


def _metrics(task: Task, logits: bool) -> list[keras.metrics.Metric]:
    """Metrics for the lines; those of metrics.json are exact and the same for all frameworks."""
    kind = {"dtype": "float32"}  # whatever the network computes in
    if task == "binary":
        threshold = 0.0 if logits else 0.5
        return [
            keras.metrics.AUC(num_thresholds=1000, from_logits=logits, name="auc", **kind),
            keras.metrics.BinaryAccuracy(threshold=threshold, name="accuracy", **kind),
        ]
    if task == "multiclass":
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy", **kind)]
    # those of Keras would round the targets to the dtype of the outputs
    return [
        keras.metrics.MeanMetricWrapper(_squared_error, name="mse", **kind),
        keras.metrics.MeanMetricWrapper(_absolute_error, name="mae", **kind),
    ]


def _squared_error(label: Any, output: Any) -> Any:
    return tf.square(difference(label, output))


def _absolute_error(label: Any, output: Any) -> Any:
    return tf.abs(difference(label, output))


def _train(
    job: TrainingJob,
    net: keras.Model,
    sources: dict[SplitName, RootSource],
    log: EpochLog,
    state: dict[str, Any] | None,
) -> None:
    training, logs = job.config.training, job.folder / "logs"
    (logs / "csv").mkdir(parents=True, exist_ok=True)
    monitor = "val_loss" if "validation" in sources else "loss"
    best = keras.callbacks.ModelCheckpoint(
        job.folder / WEIGHTS, monitor=monitor, mode="min",
        save_best_only=True, save_weights_only=True,
    )  # fmt: skip
    patience = keras.callbacks.EarlyStopping(monitor, mode="min", patience=training.patience)
    lines = keras.callbacks.CSVLogger(logs / "csv" / "metrics.csv", append=state is not None)
    signals = Signals(job.tell)
    callbacks = [
        best, patience, lines,
        keras.callbacks.TensorBoard(logs / "tb", write_graph=False),
        EpochLines(log, training.batch_size, job.prepared.events("train")),
        Resumable(job.folder, log, signals, best, patience, state),
    ]  # fmt: skip
    validation = sources.get("validation")
    first = state["epoch"] if state else 0
    sources["train"].set_epoch(first)
    try:
        if state is None or not (state["stopped"] or first == training.epochs):
            with signals:
                net.fit(
                    sources["train"].dataset("tuple"),
                    validation_data=validation.dataset("tuple") if validation else None,
                    initial_epoch=first,
                    epochs=training.epochs,
                    callbacks=callbacks,
                    shuffle=False,  # Keras would only say that the pipeline does it
                    verbose=0,
                )
        else:
            log.load_state(state["log"])  # broken off in its evaluation
    except tf.errors.OpError:
        for source in sources.values():
            if source.error:  # rather than TensorFlow's account of it
                raise source.error from None
        raise
    finally:
        if lines.csv_file:  # Keras closes it at the end of a whole training alone
            lines.csv_file.close()
    if not (job.folder / WEIGHTS).is_file():
        raise HepDataError(
            "the loss was never a number: lower training.learning_rate, or look at the scaling"
        )
