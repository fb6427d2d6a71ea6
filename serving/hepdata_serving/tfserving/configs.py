"""The text protos that ``tensorflow_model_server`` reads: models, batching, monitoring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf import text_format

from hepdata_serving.errors import ArchiveError
from hepdata_serving.tfserving.protocol import message

MODELS = "models.config"
BATCHING = "batching.config"
MONITORING = "monitoring.config"

BATCHING_TEXT = """\
# Requests of up to a millisecond run as one batch. One bad event fails the whole batch.
max_batch_size { value: 1024 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
# requests differ in the width of their padded inputs; the lengths say what is real
pad_variable_length_inputs: true
"""
"""``BatchingParameters``. Padding copies any value, which the transform never looks at."""

MONITORING_TEXT = """\
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""
"""``MonitoringConfig``: metrics for Prometheus on the REST port."""


@dataclass(frozen=True)
class ServedModel:
    """What one config says of one model: the versions to load, and labels for some of them."""

    name: str
    versions: tuple[int, ...]
    labels: Mapping[str, int] = field(default_factory=dict)


def render_models(models: Iterable[ServedModel], directory: Path) -> str:
    """``ModelServerConfig`` as text; the models lie in ``directory/models``.

    The paths are absolute, because TF Serving refuses others.
    """
    config = message("ModelServerConfig")()
    for model in sorted(models, key=lambda model: model.name):
        entry = config.model_config_list.config.add()
        entry.name = model.name
        entry.base_path = str(directory.absolute() / "models" / model.name)
        entry.model_platform = "tensorflow"
        entry.model_version_policy.specific.versions.extend(model.versions)
        entry.version_labels.update(model.labels)
    return str(text_format.MessageToString(config))


def parse_models(path: Path) -> dict[str, ServedModel]:
    """The models of a config by name; none if there is no file. Raises ArchiveError."""
    if not path.exists():
        return {}
    try:
        config = text_format.Parse(path.read_text(), message("ModelServerConfig")())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise ArchiveError(
            f"{path} is corrupt: {error}. Restore it, or remove it and export again"
        ) from error
    models: dict[str, ServedModel] = {}
    for entry in config.model_config_list.config:
        versions = tuple(sorted(entry.model_version_policy.specific.versions))
        labels = dict(entry.version_labels)
        if not entry.name or entry.name in models or not set(labels.values()) <= set(versions):
            raise ArchiveError(
                f"{path} is corrupt: model {entry.name!r} stands twice, has no name, or labels "
                f"a version that is not served. Restore it, or remove it and export again"
            )
        models[entry.name] = ServedModel(entry.name, versions, labels)
    return models
