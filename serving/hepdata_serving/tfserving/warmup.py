"""Warm-up requests: what TF Serving runs once before a version answers.

Without them, the first request pays for TensorFlow's lazy initialisation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog, PredictLog

from hepdata_adapters.common.inference.padded_inputs import dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_serving.tfserving.saved_model import RAW_SIGNATURE

WARMUP_FILE = "tf_serving_warmup_requests"
_BATCHES = (1, 8, 64)


def warmup_requests(
    name: str, events: Sequence[Mapping[str, Any]], transform: Transform
) -> list[PredictRequest]:
    """Requests of 1, 8 and 64 events, the given ones over and over; all must be good events."""
    requests = []
    for size in _BATCHES:
        batch = [events[number % len(events)] for number in range(size)]
        columns, _ = columns_from_events(batch, transform)
        request = PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = RAW_SIGNATURE
        for key, values in dense_inputs(columns, transform).items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(values))
        requests.append(request)
    return requests


def write_warmup(path: Path, requests: Sequence[PredictRequest]) -> None:
    """Write the TFRecord file of ``PredictionLog`` that TF Serving reads."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            log = PredictionLog(predict_log=PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))
