"""Lightning modules around any network: loss, metrics, optimiser."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    MulticlassAccuracy,
    MulticlassAUROC,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

from hepdata_adapters.common.config.dataset_config import Task
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.events.labels import check_classes
from hepdata_adapters.common.transform.pipeline import chosen
from hepdata_adapters.torch.data.convert import TensorBatch, Tensors

Stage = Literal["train", "validation", "test"]
HALF = torch.float16, torch.bfloat16
PADDING_LABEL = -1  # of rows that only make ranks equal; the metrics pass over it
_LEAVE_OUT = (
    "leave out such a last batch with drop_last=True of RootDataModule or RootIterableDataset, in "
    "a config with training.drop_last: true"
)
UNDEFINED_AUC = ".*(No (negative|positive) samples in targets|one or more classes).*"


class Scorer(nn.Module):
    """A network with the activation of its task: what is served.

    ``x (n, d)`` float32 (or what else the network takes) to scores: ``(n,)`` probability of
    class 1 (binary) or value (regression), ``(n, classes)`` probabilities (multiclass).

    >>> Scorer(nn.Linear(2, 3), "multiclass")(torch.zeros(4, 2)).shape
    torch.Size([4, 3])
    """

    def __init__(self, net: nn.Module, task: Task) -> None:
        super().__init__()
        self.net, self.task = net, task

    def forward(self, inputs: Tensors) -> Tensor:
        return activate(outputs(self.net(inputs), self.task), self.task)


def outputs(raw: Tensor, task: Task) -> Tensor:
    """The output of a network as ``(n,)``, or ``(n, classes)`` for several classes.

    Half precision is raised to float32: activations, losses and metrics are computed there.
    Raises ConfigError for a shape that does not fit the task.
    """
    if raw.dtype in HALF:
        raw = raw.float()
    if task == "multiclass":
        if raw.ndim != 2:
            raise ConfigError(f"a multiclass model must return (n, classes), not {raw.ndim}-d")
        return raw
    if raw.ndim == 2 and raw.shape[1] == 1:
        return raw[:, 0]
    if raw.ndim == 1:
        return raw
    raise ConfigError(f"a {task} model must return (n,) or (n, 1), not {tuple(raw.shape)}")


def activate(logits: Tensor, task: Task) -> Tensor:
    """Logits to probabilities; regression values stay."""
    if task == "binary":
        return torch.sigmoid(logits)
    return torch.softmax(logits, dim=1) if task == "multiclass" else logits


def weighted_loss(logits: Tensor, label: Tensor, weight: Tensor, task: Task) -> Tensor:
    """Sum of weight x loss over the sum of absolute weights, a scalar.

    Cross entropy for classes, squared error for regression. Negative weights stay negative;
    padding rows have weight 0 and do not count. Computed in float32 at least, in float64 where
    the targets need it, whatever the dtype of the network. Weights of any size are exact: only
    their shares in the sum are rounded.
    """
    if logits.dtype in HALF:
        logits = logits.float()
    if task == "binary":
        losses = functional.binary_cross_entropy_with_logits(
            logits, label.to(logits.dtype), reduction="none"
        )
    elif task == "multiclass":
        losses = functional.cross_entropy(logits, label, reduction="none")
    else:
        losses = (logits.to(target_dtype(logits, label)) - label).square()
    return (losses * shares(weight).to(losses.dtype)).sum()


def target_dtype(values: Tensor, label: Tensor) -> torch.dtype:
    """The dtype in which outputs and targets of a regression are compared: both are exact in it.

    >>> target_dtype(torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    torch.float64
    """
    narrow = label.dtype in HALF or label.dtype.itemsize < 4
    held = torch.float32 if narrow or label.dtype == torch.float32 else torch.float64
    return torch.promote_types(values.dtype, held)


def shares(weight: Tensor) -> Tensor:
    """Each weight over the sum of their absolute values; zeros where all are zero.

    >>> shares(torch.tensor([1e300, -3e300], dtype=torch.float64)).tolist()
    [0.25, -0.75]
    """
    if not weight.is_floating_point() or weight.dtype in HALF:
        weight = weight.double()
    if not len(weight):
        return weight
    tiny = torch.finfo(weight.dtype).tiny
    scaled = weight / weight.abs().max().clamp(min=tiny)  # so that no sum overflows
    return scaled / scaled.abs().sum().clamp(min=tiny)


def task_metrics(task: Task, num_classes: int) -> MetricCollection:
    """The metrics of a task: AUC and accuracy, or errors. Unweighted.

    Events of class `PADDING_LABEL` take no part, so that a batch of padding alone does no harm.
    """
    metrics: dict[str, Metric | MetricCollection]
    ignored: dict[str, Any] = {"ignore_index": PADDING_LABEL}
    if task == "binary":
        metrics = {"auc": BinaryAUROC(**ignored), "accuracy": BinaryAccuracy(**ignored)}
    elif task == "multiclass":
        metrics = {
            "auc": MulticlassAUROC(num_classes, average="macro", **ignored),
            "accuracy": MulticlassAccuracy(num_classes, average="micro", **ignored),
        }
    else:
        metrics = {"mse": MeanSquaredError(), "mae": MeanAbsoluteError()}
    return MetricCollection(metrics, compute_groups=False)  # each has a state of its own


def mean_loss() -> MeanMetric:
    """The mean loss of the events of a pass."""
    return MeanMetric(nan_strategy=math.nan)  # by default NaN would be left out of the mean


class EventModule(lightning.LightningModule):
    """Trains any network on batches of a `RootIterableDataset`.

    net: ``(n, d)`` to logits ``(n,)``, ``(n, 1)`` or ``(n, classes)``. inputs: the arrays of a
    batch that it takes; ``x`` alone as a tensor, several as a dict of tensors. Called with a whole
    batch, it takes these of it.
    Logs ``{train,validation,test}_loss`` and the metrics of the task; padding rows take no part.
    A checkpoint holds all arguments but the network: ``load_from_checkpoint(path, net=…)``.

    Raises ConfigError for a task that is none.

    >>> module = EventModule(nn.Linear(4, 1), "binary")
    >>> module(torch.zeros(3, 4)).shape
    torch.Size([3])
    """

    def __init__(
        self,
        net: nn.Module,
        task: Task = "binary",
        *,
        num_classes: int = 2,
        inputs: Sequence[str] = ("x",),
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        if task not in get_args(Task):
            raise ConfigError(f"task is one of {', '.join(get_args(Task))}, not {task!r}")
        self.save_hyperparameters(ignore=["net"], logger=False)
        self.scorer = Scorer(net, task)
        self.task: Task = task
        self.num_classes = num_classes
        self.inputs = tuple(inputs)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.train_loss, self.validation_loss, self.test_loss = (mean_loss() for _ in range(3))
        self.train_loss.persistent(True)  # so that an epoch can go on in its middle
        metrics = task_metrics(task, num_classes)
        # training events are seen through dropout: their AUC is computed after the fit
        self.validation_metrics = metrics.clone(prefix="validation_")
        self.test_metrics = metrics.clone(prefix="test_")
        self._shown: set[Stage] = set()  # whose metrics Lightning has, in a pass that goes on

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *arguments: Any, **options: Any) -> Any:
        """The module of a checkpoint, around a network that is given: its weights are loaded.

        Raises ConfigError without ``net``.
        """
        if "net" not in options:
            raise ConfigError(
                f"a checkpoint holds the weights, not the network: {cls.__name__}."
                f"load_from_checkpoint({str(checkpoint_path)!r}, net=…) with one of its shape"
            )
        return super().load_from_checkpoint(checkpoint_path, *arguments, **options)

    def forward(self, inputs: Tensors) -> Tensor:
        """Scores, as a served model gives them."""
        given = chosen(inputs, self.inputs) if isinstance(inputs, dict) else inputs
        scores: Tensor = self.scorer(given)
        return scores

    def setup(self, stage: str) -> None:
        self._shown.clear()  # a pass may go on in its middle

    def on_train_batch_start(self, batch: TensorBatch, batch_idx: int) -> None:
        if batch_idx == 0:  # a checkpoint of the end of an epoch still has that epoch's
            self.train_loss.reset()

    def training_step(self, batch: TensorBatch, index: int) -> Tensor:
        if len(batch["weight"]) > 1:
            return self._step(batch, index, "train")
        return of_one_event(self.scorer.net, lambda: self._step(batch, index, "train"))

    def validation_step(self, batch: TensorBatch, index: int) -> None:
        self._step(batch, index, "validation", self.validation_metrics)

    def test_step(self, batch: TensorBatch, index: int) -> None:
        self._step(batch, index, "test", self.test_metrics)

    def predict_step(self, batch: TensorBatch, index: int) -> TensorBatch:
        """``score`` as a served model gives it, and ``event (n, 2)``; without padding rows."""
        real = batch["event"][:, 0] >= 0
        scores = self(batch)
        return {"score": scores[real], "event": batch["event"][real]}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )

    def _step(
        self, batch: TensorBatch, index: int, stage: Stage, metrics: MetricCollection | None = None
    ) -> Tensor:
        logits = outputs(self.scorer.net(chosen(batch, self.inputs)), self.task)
        label = batch["label"]
        _refuse_rounded(batch)
        check_classes(label, self.task, self.num_classes)
        loss = weighted_loss(logits, label, batch["weight"], self.task)
        shown: dict[str, Any] = {"on_epoch": True, "on_step": False, "batch_size": len(label)}
        # Lightning keeps the metric itself and asks it at the end of the pass; to log it in each
        # step costs more than the step of a small network
        fresh = index == 0 or stage not in self._shown
        self._shown.add(stage)
        mean: MeanMetric = getattr(self, f"{stage}_loss")
        mean.update(loss.detach().clone(), len(label))
        if fresh:
            self.log(f"{stage}_loss", mean, prog_bar=True, **shown)
        if metrics is not None:
            scores, real = activate(logits.detach(), self.task), batch["event"][:, 0] >= 0
            if self.task == "regression":
                wide = target_dtype(scores, label)
                metrics.update(scores[real].to(wide), label[real].to(wide))
            else:
                metrics.update(scores, label.to(torch.int64).masked_fill(~real, PADDING_LABEL))
            if fresh:
                self.log_dict(metrics, prog_bar=True, **shown)
        return loss


def of_one_event(net: nn.Module, step: Callable[[], Tensor]) -> Tensor:
    """A training step of one event, which has no variance for BatchNorm.

    Where that fails, BatchNorm takes its running statistics, which stay as they are. Raises
    ConfigError where it has none yet.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, _BatchNorm) and layer.training]
    counts = [layer.num_batches_tracked for layer in layers]
    before = [None if count is None else count.clone() for count in counts]
    try:
        return step()
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
    for count, value in zip(counts, before, strict=True):
        if count is not None and value is not None:  # counted before it was refused
            count.copy_(value)
    if not all(before):  # none, or of no batch
        raise ConfigError(
            f"a batch of one event has no variance for BatchNorm, and no batch came before: raise "
            f"batch_size, or, if there is more than one batch, {_LEAVE_OUT}"
        )
    warnings.warn(
        f"BatchNorm took a training batch of one event with its running statistics: {_LEAVE_OUT}",
        stacklevel=2,
    )
    for layer in layers:
        layer.eval()
    try:
        return step()
    finally:
        for layer in layers:
            layer.train()


def _refuse_rounded(batch: TensorBatch) -> None:
    """Raise ConfigError for labels or weights in half precision: they were rounded on the way."""
    rounded = [name for name in ("label", "weight") if batch[name].dtype in HALF]
    if rounded:
        raise ConfigError(
            f"{' and '.join(rounded)} of the batch came as {batch[rounded[0]].dtype}, rounded "
            f"before the loss: Lightning's precisions '16-true' and 'bf16-true' do this to all "
            f"floats; take precision='bf16-mixed', whose loss is computed from the exact values"
        )
