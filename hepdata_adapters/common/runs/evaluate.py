"""Scores, metrics and pictures of a trained model, split by split, for every framework."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, auc, mean_absolute_error, mean_squared_error, roc_curve

from hepdata_adapters.common.config.dataset_config import Task
from hepdata_adapters.common.core.errors import HepDataError
from hepdata_adapters.common.core.ledger import Ledger, SharedLedger
from hepdata_adapters.common.core.writing import check_folder
from hepdata_adapters.common.events.labels import check_classes
from hepdata_adapters.common.events.split import SPLITS, SplitName
from hepdata_adapters.common.runs.pictures import Roc, plot_regression, plot_roc, plot_scores
from hepdata_adapters.common.runs.run_folder import Run, write_json
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.stream.epoch import EpochOptions
from hepdata_adapters.common.stream.event_stream import EventStream
from hepdata_adapters.common.transform.pipeline import ScoreFunction

BATCH = 8192
TINY = float(np.finfo(np.float64).tiny)
Metrics = dict[str, float]


@dataclass(frozen=True, eq=False)
class Scored:
    """The events of a split with their scores.

    scores ``(n,)`` or ``(n, classes)`` float32; label ``(n,)``; weight ``(n,)`` float64.
    """

    scores: NDArray[np.float32]
    label: NDArray[Any]
    weight: NDArray[np.float64]


def evaluate_run(
    run: Run[Any],
    prepared: Dataset | None = None,
    training: dict[str, Any] | None = None,
    ledger: Ledger | None = None,
) -> dict[str, Any]:
    """Metrics of all splits to metrics.json, pictures, and the ledger to ledger.json.

    Raises HepDataError where the model gives NaN or infinity, FileError where the run folder
    cannot be written.
    """
    check_folder(run.folder)  # before the work, not after it
    prepared = prepared or run.prepare()
    evaluation = prepared.notes()
    splits: dict[SplitName, Scored] = {}
    for name in SPLITS:
        splits[name], delivered = score_split(run.score, prepared, name)
        evaluation.merge(delivered)
    metrics: dict[str, Metrics | dict[str, Any]] = {
        name: metrics_of(scored, run.task, len(run.class_names)) for name, scored in splits.items()
    }
    metrics["training"] = training or _read(run.folder / "metrics.json").get("training", {})
    before = _read(run.folder / "ledger.json").get("training", {})
    trained = before if ledger is None else ledger.to_dict()
    write_json(run.folder / "metrics.json", metrics)
    write_json(
        run.folder / "ledger.json", {"training": trained, "evaluation": evaluation.to_dict()}
    )
    draw(run.folder, splits, run.task, run.class_names)
    return metrics | {"ledger": str(evaluation)}


def _read(path: Path) -> dict[str, Any]:
    """What an earlier evaluation wrote, if anything; what is damaged is nothing."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    return {}


def score_split(score: ScoreFunction, prepared: Dataset, split: SplitName) -> tuple[Scored, Ledger]:
    """Scores of all events of a split, in file order, and what happened to them on the way."""
    all_events = EpochOptions(BATCH, shuffle=False, seed=0).epoch()
    ledger, inputs_of = SharedLedger(), prepared.transform.model_input
    with EventStream(prepared, split) as stream:
        parts = [
            (score(inputs_of(batch)), batch["label"], batch["weight"])
            for batch in all_events.batches(stream, ledger)
        ]
    if not parts:
        empty = np.zeros(0, np.float32)
        return Scored(empty, empty, np.zeros(0)), ledger.read()
    scores, label, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    bad = int((~np.isfinite(scores)).reshape(len(scores), -1).any(axis=1).sum())
    if bad:
        raise HepDataError(
            f"the model gives NaN or infinity for {bad} of {len(scores)} {split} events: "
            f"did the training diverge? Lower training.learning_rate, or look at the scaling"
        )
    return Scored(scores, label, weight), ledger.read()


def metrics_of(scored: Scored, task: Task, num_classes: int) -> Metrics:
    """Metrics of one split (unweighted but for the loss); none for an empty split.

    ``auc`` of several classes is the mean over each class against the rest. There is none where
    all events are of one class.
    """
    scores, label = scored.scores, scored.label
    if not len(scores):
        return {"events": 0}
    check_classes(label, task, num_classes)
    metrics: Metrics = {"events": len(label)}
    if task == "regression":
        scores, label = scores.astype(np.float64), label.astype(np.float64)
        weight, errors = scored.weight, (scores - label) ** 2
        weight = weight / max(float(np.abs(weight).max()), TINY)  # so that no sum overflows
        total = max(float(np.abs(weight).sum()), TINY)
        metrics["mse"] = float(mean_squared_error(label, scores))
        metrics["mae"] = float(mean_absolute_error(label, scores))
        metrics["loss"] = float((errors * weight).sum() / total)
        spread = float(np.var(label))
        metrics["r2"] = 1.0 - metrics["mse"] / spread if spread else 0.0
        return metrics
    if task == "binary":
        guessed, pairs = (scores > 0.5).astype(np.int64), [(scores, label == 1)]
    else:
        guessed = scores.argmax(axis=1)
        pairs = [(scores[:, i], label == i) for i in range(num_classes)]
    areas = [_roc(*pair).auc for pair in pairs if _has_two_classes(pair[1])]
    if areas:
        metrics["auc"] = float(np.mean(areas))
    metrics["accuracy"] = float(accuracy_score(label, guessed))
    return metrics


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
    background, efficiency, _ = roc_curve(signal, scores)
    return Roc(background, efficiency, float(auc(background, efficiency)))
