"""Scores, metrics and pictures of a trained model, split by split."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_roc

from hepdata_adapters.common.config import Task
from hepdata_adapters.common.ledger import Ledger
from hepdata_adapters.common.plots import Roc, plot_regression, plot_roc, plot_scores
from hepdata_adapters.common.split import SPLITS, SplitName
from hepdata_adapters.common.stream import Dataset
from hepdata_adapters.torch.dataset import RootIterableDataset
from hepdata_adapters.torch.module import (
    UNDEFINED_AUC,
    Scorer,
    check_classes,
    task_metrics,
    weighted_loss,
)

BATCH = 8192
Metrics = dict[str, float]


@dataclass(frozen=True, eq=False)
class Scored:
    """The events of a split with their scores.

    scores ``(n,)`` or ``(n, classes)`` float32; label ``(n,)``; weight ``(n,)`` float64.
    """

    scores: NDArray[np.float32]
    label: NDArray[Any]
    weight: NDArray[np.float64]


@torch.inference_mode()
def score_split(scorer: Scorer, prepared: Dataset, split: SplitName) -> tuple[Scored, Ledger]:
    """Scores of all events of a split, in file order, and what happened to them on the way."""
    dataset = RootIterableDataset(
        prepared, batch_size=BATCH, split=split, shuffle=False, rank=0, world_size=1
    )
    scorer.eval()
    parts = [(scorer(batch["x"]), batch["label"], batch["weight"]) for batch in dataset]
    if not parts:
        empty = np.zeros(0, np.float32)
        return Scored(empty, empty, np.zeros(0)), dataset.delivery
    scores, label, weight = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return Scored(scores, label, weight), dataset.delivery


def metrics_of(scored: Scored, task: Task, num_classes: int) -> Metrics:
    """Metrics of one split (unweighted but for the loss); none for an empty split.

    There is no AUC where all events are of one class.
    """
    if not len(scored.scores):
        return {"events": 0}
    scores, label = torch.from_numpy(scored.scores), torch.from_numpy(scored.label)
    check_classes(label, task, num_classes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", UNDEFINED_AUC)
        found = task_metrics(task, num_classes)(scores, label)
    metrics = {name: float(value) for name, value in found.items()}
    if not _has_two_classes(scored.label):
        metrics.pop("auc", None)
    if task == "regression":
        loss = weighted_loss(scores, label, torch.from_numpy(scored.weight), task)
        metrics["loss"] = float(loss)
        spread = float(np.var(scored.label))
        metrics["r2"] = 1.0 - metrics["mse"] / spread if spread else 0.0
    return {"events": len(scored.label), **metrics}


def draw(folder: Path, splits: dict[SplitName, Scored], task: Task, names: list[str]) -> list[Path]:
    """The pictures of a task; empty splits are left out. Returns the files written."""
    full = {name: scored for name, scored in splits.items() if len(scored.scores)}
    if task == "regression":
        last = full.get("test") or next(iter(full.values()))
        plot_regression(folder / "prediction.png", last.label, last.scores, names[0])
        return [folder / "prediction.png"]
    curves: dict[str, Roc]
    if task == "binary":
        curves = {
            str(name): _roc(s.scores, s.label == 1)
            for name, s in full.items()
            if _has_two_classes(s.label)
        }
    else:
        last = full.get("test") or next(iter(full.values()))
        curves = {
            f"{name} against the rest": _roc(last.scores[:, i], last.label == i)
            for i, name in enumerate(names)
            if _has_two_classes(last.label == i)
        }
    written = [folder / "roc.png"]
    plot_roc(written[0], curves)
    train = full["train"]
    test = full.get("test", train)
    shown = ["score"] if task == "binary" else [f"score of {name}" for name in names]
    for column, title in enumerate(shown):
        path = folder / ("scores.png" if task == "binary" else f"scores_{names[column]}.png")
        classes = [_by_class(scored, column, task, names) for scored in (train, test)]
        plot_scores(path, classes[0], classes[1], title)
        written.append(path)
    return written


def _has_two_classes(label: NDArray[Any]) -> bool:
    return bool((label != label[0]).any())


def _by_class(scored: Scored, column: int, task: Task, names: list[str]) -> dict[str, NDArray[Any]]:
    scores = scored.scores if task == "binary" else scored.scores[:, column]
    return {name: scores[scored.label == i] for i, name in enumerate(names)}


def _roc(scores: NDArray[Any], signal: NDArray[np.bool_]) -> Roc:
    background, efficiency, _ = binary_roc(torch.from_numpy(scores), torch.from_numpy(signal).int())
    x, y = background.numpy(), efficiency.numpy()
    return Roc(x, y, float(np.trapezoid(y, x)))


def all_splits(scorer: Scorer, prepared: Dataset) -> tuple[dict[SplitName, Scored], Ledger]:
    """`score_split` for train, validation and test, and one ledger for all."""
    splits: dict[SplitName, Scored] = {}
    total = prepared.notes()
    for name in SPLITS:
        splits[name], ledger = score_split(scorer, prepared, name)
        total.merge(ledger)
    return splits, total
