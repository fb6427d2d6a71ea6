"""The messages of TF Serving's ``ModelService``, for clients of it that have no TensorFlow.

``tensorflow-serving-api`` holds the official ones and brings all of TensorFlow along. These have
the same names, fields and numbers (a test compares them all), so that they are the same bytes.
They live in a pool of their own and do not meet the official ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "tensorflow.serving"
AVAILABLE, END = 30, 50
"""``ModelVersionStatus.State``: answers requests; gone, or failed."""

_SERVICE = f"/{PACKAGE}.ModelService"
_POLICY = "FileSystemStoragePathSourceConfig.ServableVersionPolicy"
_ANY = "google.protobuf.Any"
_ENUMS = {
    "ModelType": {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2},
    "ModelVersionStatus.State": {
        "UNKNOWN": 0, "START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50,
    },
}  # fmt: skip

# Each field as "name number type"; "*" marks a repeated one, "map" one of strings to int64, and
# what follows is the oneof that it is in. The enum of error codes has the bytes of an int32.
_MESSAGES = {
    "ReloadConfigRequest": ("config 1 ModelServerConfig", "metric_names 2 string*"),
    "ReloadConfigResponse": ("status 1 StatusProto", "metric 2 Metric*"),
    "GetModelStatusRequest": ("model_spec 1 ModelSpec",),
    "GetModelStatusResponse": ("model_version_status 1 ModelVersionStatus*",),
    "ModelVersionStatus": ("version 1 int64", "state 2 ModelVersionStatus.State",
                           "status 3 StatusProto"),
    "StatusProto": ("error_code 1 int32", "error_message 2 string"),
    "Metric": ("name 1 string", "int64_value_increase 2 int64 value_increase"),
    "ModelSpec": ("name 1 string", "version 2 google.protobuf.Int64Value version_choice",
                  "version_label 4 string version_choice", "signature_name 3 string"),
    "ModelServerConfig": ("model_config_list 1 ModelConfigList config",
                          f"custom_model_config 2 {_ANY} config"),
    "ModelConfigList": ("config 1 ModelConfig*",),
    "ModelConfig": ("name 1 string", "base_path 2 string", "model_type 3 ModelType",
                    "model_platform 4 string", f"model_version_policy 7 {_POLICY}",
                    "version_labels 8 map", "logging_config 6 LoggingConfig"),
    "FileSystemStoragePathSourceConfig": (),
    _POLICY: (f"latest 100 {_POLICY}.Latest policy_choice", f"all 101 {_POLICY}.All policy_choice",
              f"specific 102 {_POLICY}.Specific policy_choice"),
    f"{_POLICY}.Latest": ("num_versions 1 uint32",),
    f"{_POLICY}.All": (),
    f"{_POLICY}.Specific": ("versions 1 int64*",),
    "LoggingConfig": ("log_collector_config 1 LogCollectorConfig",
                      "sampling_config 2 SamplingConfig", f"custom_logging_config 3 {_ANY}"),
    "LogCollectorConfig": ("type 1 string", "filename_prefix 2 string"),
    "SamplingConfig": ("sampling_rate 1 double",
                       "per_task_sampling_configs 3 PerTaskSamplingConfig*", "attributes 2 int32"),
    "PerTaskSamplingConfig": ("dc 1 string", "task_index 2 int32", "sampling_rate 3 double"),
}  # fmt: skip
_SCALARS = {
    name: getattr(FieldDescriptorProto, f"TYPE_{name.upper()}")
    for name in ("string", "int64", "int32", "uint32", "double")
}


def message(name: str) -> Any:
    r"""The class of a message of ``tensorflow.serving``.

    >>> message("ModelSpec")(name="tth", version_label="stable").SerializeToString()
    b'\n\x03tth"\x06stable'
    """
    return GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


def call(channel: grpc.Channel, method: str) -> Callable[..., Any]:
    """A method of ``ModelService``, to be called with a request and ``timeout=``."""
    request = f"{method.removesuffix('Request')}Request".removeprefix("Handle")
    answer = message(f"{request.removesuffix('Request')}Response")
    stub: Callable[..., Any] = channel.unary_unary(
        f"{_SERVICE}/{method}",
        request_serializer=message(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    return stub


def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    for known in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    file = FileDescriptorProto(name="model_service.proto", package=PACKAGE, syntax="proto3")
    file.dependency.extend([any_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name])
    made: dict[str, DescriptorProto] = {}
    for name, fields in _MESSAGES.items():
        outer, _, own = name.rpartition(".")
        made[name] = (made[outer].nested_type if outer else file.message_type).add(name=own)
        for field in fields:
            _add_field(made[name], *field.split())
    for name, values in _ENUMS.items():
        outer, _, own = name.rpartition(".")
        enum = (made[outer] if outer else file).enum_type.add(name=own)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _add_field(
    to: DescriptorProto, name: str, number: str, kind: str, oneof: str | None = None
) -> None:
    field = to.field.add(name=name, number=int(number), label=FieldDescriptorProto.LABEL_OPTIONAL)
    if kind == "map":
        entry = to.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key", "1", "string")
        _add_field(entry, "value", "2", "int64")
        kind = f"{to.name}.{entry.name}*"
    if kind.endswith("*"):
        field.label, kind = FieldDescriptorProto.LABEL_REPEATED, kind[:-1]
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        enum = kind in _ENUMS
        field.type = FieldDescriptorProto.TYPE_ENUM if enum else FieldDescriptorProto.TYPE_MESSAGE
        field.type_name = f".{kind}" if kind.startswith("google.") else f".{PACKAGE}.{kind}"
    if oneof:
        names = [each.name for each in to.oneof_decl]
        if oneof not in names:
            to.oneof_decl.add(name=oneof)
        field.oneof_index = names.index(oneof) if oneof in names else len(names)


_POOL = _pool()
