"""What the small exported models of PyTorch and of Keras share."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import VectorTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform
from hepdata_serving.exportable import Exportable


def transform_of(missing: float, integer: FeatureTransform) -> Transform:
    """Flat, array and jagged branches of several dtypes; NaN is allowed in MET and Jet_pt.

    missing: what stands for it in MET.
    """
    features = (
        FeatureTransform(
            branch="MET", kind="flat", dtype="float32", width=1, factor=0.02, missing=missing
        ),
        integer,
        FeatureTransform(branch="HT", kind="flat", dtype="float64", width=1, factor=0.003),
        FeatureTransform(branch="trigger", kind="flat", dtype="bool", width=1),
        FeatureTransform(branch="vertex", kind="array", dtype="float32", width=3),
        FeatureTransform(
            branch="Jet_pt",
            kind="jagged",
            dtype="float32",
            width=4,
            center=40.0,
            factor=0.02,
            missing=40.0,
        ),
        FeatureTransform(
            branch="Lep_eta", kind="jagged", dtype="float32", width=2, overflow="error"
        ),
    )
    return Transform.of_vector(VectorTransform(features=features))


def event_of(
    rng: np.random.Generator, met: float, integer: dict[str, int], jets: list[float]
) -> dict[str, Any]:
    """An event as a client has it, for a transform of `transform_of`."""
    return {
        "MET": met,
        **integer,
        "HT": float(np.nansum(jets)),
        "trigger": bool(rng.integers(2)),
        "vertex": rng.normal(size=3).astype(np.float32).tolist(),
        "Jet_pt": jets,
        "Lep_eta": rng.normal(size=int(rng.integers(3))).astype(np.float32).tolist(),
    }


def model_of(
    name: str,
    scorer: Any,
    transform: Transform,
    classes: int,
    events: list[dict[str, Any]],
    predictions: list[Any],
) -> Exportable[Any]:
    """One class, or several that are named by number."""
    return Exportable(
        name=name,
        scorer=scorer,
        transform=transform,
        task="multiclass" if classes > 1 else "binary",
        outputs=[f"class{i}" for i in range(classes)],
        golden_events=events,
        golden_predictions=predictions,
        metadata={"auc": 0.9, "specs": {"events": 100}},
    )
