"""What an export is given, whatever the kind of server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_serving.archive import checked_name
from hepdata_serving.checks import check_exportable, check_task, golden_values, needed
from hepdata_serving.golden import golden_text
from hepdata_serving.metadata import metadata_text

Model = TypeVar("Model")


@dataclass(frozen=True, kw_only=True)
class Exportable(Generic[Model]):
    """A trained model, its transform, and what proves and describes it.

    name: of the model, in URLs and paths (see `hepdata_serving.archive.checked_name`).
    scorer: ``x (n, d)`` float32 (a dict by name where the transform has inputs) to float32 scores
    with the activation inside: ``(n,)`` for ``task`` ``"binary"`` and ``"regression"``, ``(n, C)``
    for ``"multiclass"``. Of PyTorch a module on the CPU and in eval mode, of TensorFlow a callable
    that it can track.
    transform: raw events to ``x``, as in training.
    outputs: one name, or those of the C classes in the order of the scores.
    golden_events: some raw events, values by branch in the units of the files (NaN allowed where
    the transform allows it).
    golden_predictions: what the model predicts for each of them, a finite number or C of them.
    metadata: anything JSON can hold; NaN becomes null.

    Raises ConfigError for values that do not fit together, ExportError for a transform with ragged
    or sparse inputs, which no exported model takes.
    """

    name: str
    scorer: Model
    transform: Transform
    task: str
    outputs: Sequence[str]
    golden_events: Sequence[Mapping[str, Any]]
    golden_predictions: Sequence[Any]
    metadata: Mapping[str, Any]

    def __post_init__(self) -> None:
        checked_name(self.name, "model name")
        check_task(self.task, self.outputs)
        check_exportable(self.transform)
        golden_values(self.golden_events, self.golden_predictions)

    @property
    def classes(self) -> int | None:
        """How many scores an event has, or None for one that has no axis of its own."""
        return len(self.outputs) if self.task == "multiclass" else None

    @cached_property
    def events(self) -> list[dict[str, Any]]:
        """The golden events with nothing but the branches that the transform uses."""
        return [needed(event, self.transform) for event in self.golden_events]

    @cached_property
    def expected(self) -> list[Any]:
        """The golden predictions as Python floats."""
        return golden_values(self.golden_events, self.golden_predictions)

    def described(self, version: str, frameworks: Mapping[str, str]) -> dict[str, bytes]:
        """The files of every export beside the model itself, by name.

        frameworks: version by name. Raises ConfigError for metadata that is not JSON.
        """
        about = metadata_text(
            self.name,
            version,
            self.transform,
            self.task,
            self.outputs,
            self.metadata,
            frameworks,
        )
        texts = {
            "transform.json": self.transform.model_dump_json(indent=1) + "\n",
            "golden.json": golden_text(self.events, self.expected),
            "metadata.json": about,
        }
        return {name: text.encode() for name, text in texts.items()}
