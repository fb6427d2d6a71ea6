"""Lightning modules around any network: loss, metrics, optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import lightning
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    MulticlassAccuracy,
    MulticlassAUROC,
)
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError

from hepdata_adapters.common.config import Task
from hepdata_adapters.common.errors import ConfigError
from hepdata_adapters.common.targets import check_classes
from hepdata_adapters.common.transform.pipeline import chosen
from hepdata_adapters.torch.convert import TensorBatch, Tensors

Stage = Literal["train", "validation", "test"]
PADDING_LABEL = -1  # of rows that only make ranks equal; the metrics pass over it
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

    Raises ConfigError for a shape that does not fit the task.
    """
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
    padding rows have weight 0 and do not count.
    """
    if task == "binary":
        losses = functional.binary_cross_entropy_with_logits(
            logits, label.to(logits.dtype), reduction="none"
        )
    elif task == "multiclass":
        losses = functional.cross_entropy(logits, label, reduction="none")
    else:
        losses = functional.mse_loss(logits, label.to(logits.dtype), reduction="none")
    weight = weight.to(losses.dtype)
    tiny = torch.finfo(losses.dtype).tiny
    return (losses * weight).sum() / weight.abs().sum().clamp(min=tiny)


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
    return MetricCollection(metrics)


class EventModule(lightning.LightningModule):
    """Trains any network on batches of a `RootIterableDataset`.

    net: ``(n, d)`` to logits ``(n,)``, ``(n, 1)`` or ``(n, classes)``. inputs: the arrays of a
    batch that it takes; ``x`` alone as a tensor, several as a dict of tensors.
    Logs ``{train,validation,test}_loss`` and the metrics of the task; padding rows take no part.

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
        self.scorer = Scorer(net, task)
        self.task: Task = task
        self.num_classes = num_classes
        self.inputs = tuple(inputs)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        metrics = task_metrics(task, num_classes)
        # training events are seen through dropout: their AUC is computed after the fit
        self.validation_metrics = metrics.clone(prefix="validation_")
        self.test_metrics = metrics.clone(prefix="test_")

    def forward(self, inputs: Tensors) -> Tensor:
        """Scores, as a served model gives them."""
        scores: Tensor = self.scorer(inputs)
        return scores

    def training_step(self, batch: TensorBatch, index: int) -> Tensor:
        return self._step(batch, "train")

    def validation_step(self, batch: TensorBatch, index: int) -> None:
        self._step(batch, "validation", self.validation_metrics)

    def test_step(self, batch: TensorBatch, index: int) -> None:
        self._step(batch, "test", self.test_metrics)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )

    def _step(
        self, batch: TensorBatch, stage: Stage, metrics: MetricCollection | None = None
    ) -> Tensor:
        logits = outputs(self.scorer.net(chosen(batch, self.inputs)), self.task)
        label = batch["label"]
        check_classes(label, self.task, self.num_classes)
        loss = weighted_loss(logits, label, batch["weight"], self.task)
        shown: dict[str, Any] = {"on_epoch": True, "on_step": False, "batch_size": len(label)}
        self.log(f"{stage}_loss", loss, prog_bar=True, sync_dist=True, **shown)
        if metrics is not None:
            scores, real = activate(logits.detach(), self.task), batch["event"][:, 0] >= 0
            if self.task == "regression":
                metrics.update(scores[real], label[real])
            else:
                metrics.update(scores, label.masked_fill(~real, PADDING_LABEL))
            self.log_dict(metrics, prog_bar=True, **shown)
        return loss
