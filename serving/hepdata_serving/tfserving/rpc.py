"""TF Serving's gRPC services, on the official servicers of ``tensorflow-serving-api``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
import tensorflow as tf
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import (
    GetModelStatusRequest,
    GetModelStatusResponse,
)
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_service_pb2_grpc import (
    ModelServiceServicer,
    add_ModelServiceServicer_to_server,
)
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import (
    PredictionServiceServicer,
    add_PredictionServiceServicer_to_server,
)

from hepdata_adapters.common.core.errors import ConfigError, HepDataError
from hepdata_serving.tfserving.engine import Engine
from hepdata_serving.tfserving.faults import RequestError, invalid
from hepdata_serving.tfserving.servable import DEFAULT_SIGNATURE
from hepdata_serving.tfserving.tensors import from_proto

MAX_MESSAGE_BYTES = 64 * 1024 * 1024

_SIGNATURES = "signature_def"
_Answer = TypeVar("_Answer")


def add_services(engine: Engine, server: grpc.Server) -> None:
    """Let the server answer for ``PredictionService`` and ``ModelService``."""
    add_PredictionServiceServicer_to_server(_PredictionService(engine), server)
    add_ModelServiceServicer_to_server(_ModelService(engine), server)


class _PredictionService(PredictionServiceServicer):
    """Predictions and signatures. These models take no tf.Example, so no Classify and Regress."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def Predict(  # noqa: N802 (the name in the protocol)
        self, request: PredictRequest, context: grpc.ServicerContext
    ) -> PredictResponse:
        return _answered(context, lambda: _predict(self._engine, request))

    def GetModelMetadata(  # noqa: N802
        self, request: GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> GetModelMetadataResponse:
        return _answered(context, lambda: _metadata(self._engine, request))

    def Classify(self, request: Any, context: grpc.ServicerContext) -> NoReturn:  # noqa: N802
        _unimplemented(context, "Classify")

    def Regress(self, request: Any, context: grpc.ServicerContext) -> NoReturn:  # noqa: N802
        _unimplemented(context, "Regress")

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> NoReturn:  # noqa: N802
        _unimplemented(context, "MultiInference")


class _ModelService(ModelServiceServicer):
    """The states of versions, and a new config."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def GetModelStatus(  # noqa: N802
        self, request: GetModelStatusRequest, context: grpc.ServicerContext
    ) -> GetModelStatusResponse:
        return _answered(context, lambda: self._engine.status(request.model_spec))

    def HandleReloadConfigRequest(  # noqa: N802
        self, request: ReloadConfigRequest, context: grpc.ServicerContext
    ) -> ReloadConfigResponse:
        def reload() -> ReloadConfigResponse:
            self._engine.reload_config(request.config)
            return ReloadConfigResponse(status={})

        return _answered(context, reload)


def _predict(engine: Engine, request: PredictRequest) -> PredictResponse:
    servable = engine.find(request.model_spec)
    name = request.model_spec.signature_name
    inputs = {key: from_proto(key, proto) for key, proto in request.inputs.items()}
    outputs = servable.predict(inputs, name, request.output_filter)
    response = PredictResponse(
        outputs={key: tf.make_tensor_proto(values) for key, values in outputs.items()}
    )
    response.model_spec.name = servable.model
    response.model_spec.version.value = servable.version
    response.model_spec.signature_name = name or DEFAULT_SIGNATURE
    return response


def _metadata(engine: Engine, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
    if list(request.metadata_field) != [_SIGNATURES]:
        raise invalid(f"metadata_field must be {_SIGNATURES!r}, not {list(request.metadata_field)}")
    servable = engine.find(request.model_spec)
    response = GetModelMetadataResponse()
    response.model_spec.name = servable.model
    response.model_spec.version.value = servable.version
    signatures = SignatureDefMap(signature_def=dict(servable.signatures))
    response.metadata[_SIGNATURES].Pack(signatures)
    return response


def _answered(context: grpc.ServicerContext, answer: Callable[[], _Answer]) -> _Answer:
    """The answer, or the call aborted with the status code of its error."""
    try:
        return answer()
    except RequestError as fault:
        context.abort(fault.code, str(fault))
    except ConfigError as error:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except HepDataError as error:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    raise AssertionError("abort raises")


def _unimplemented(context: grpc.ServicerContext, method: str) -> NoReturn:
    context.abort(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{method} takes tf.Example, which these models do not: use Predict",
    )
    raise AssertionError("abort raises")
