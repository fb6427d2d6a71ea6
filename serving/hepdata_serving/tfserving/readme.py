"""The README of a folder of models: how to serve it, ask it, promote and roll back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hepdata_adapters.common.inference.padded_inputs import dense_inputs
from hepdata_adapters.common.inference.raw_events import columns_from_events
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.tf.transform.event_transform import input_signature
from hepdata_serving.archive import write_atomically
from hepdata_serving.errors import ArchiveError
from hepdata_serving.integrity import parse_json
from hepdata_serving.tfserving.configs import BATCHING, MODELS, MONITORING
from hepdata_serving.tfserving.versions import ROLLOUT, served_versions, versions_on_disk
from hepdata_serving.transforms import read_transform


def write_readme(directory: Path) -> Path:
    """Write ``README.md`` for the models that the folder serves.

    Raises ArchiveError for a model that was not exported by `export_tfserving`.
    """
    models = [
        _model_text(name, directory / "models" / name / str(versions_on_disk(directory, name)[-1]))
        for name in served_versions(directory)
    ]
    text = _folder_text(directory.absolute()) + "".join(models) + _PROOF
    return write_atomically(directory / "README.md", text.encode())


def rest_row(event: Mapping[str, Any], transform: Transform) -> dict[str, Any]:
    """One raw event as a row of a REST request: padded lists beside their lengths.

    All rows of a request must be padded to the same width. NaN stays a float.

    >>> from hepdata_adapters.common.transform.vector import FeatureTransform, VectorTransform
    >>> transform = Transform.of_vector(VectorTransform(features=(
    ...     FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2),)))
    >>> rest_row({"pt": [3.0, 1.0]}, transform)
    {'pt': [3.0, 1.0], 'pt_length': 2}
    """
    columns, _ = columns_from_events([event], transform)
    return {name: values[0].tolist() for name, values in dense_inputs(columns, transform).items()}


def _server_options(directory: Path) -> str:
    options = {
        "model_config_file": directory / MODELS,
        "allow_version_labels_for_unavailable_models": "true",
        "enable_batching": "true",
        "batching_parameters_file": directory / BATCHING,
        "monitoring_config_file": directory / MONITORING,
    }
    return " \\\n  ".join(f"--{option}={shlex.quote(str(v))}" for option, v in options.items())


def _folder_text(directory: Path) -> str:
    options, folder = _server_options(directory), shlex.quote(str(directory))
    return f"""\
# Models for TF Serving

Each model takes raw events: the transform of its training is part of its graph. Serve them on
this machine, without TF Serving:

```
hepdata-adapters serve {folder} --port 8501
```

or with TF Serving itself (gRPC on port 8500, REST on 8501):

```
tensorflow_model_server --port=8500 --rest_api_port=8501 \\
  {options}
```

or with its container image, the folder mounted under its own path:

```
docker run --rm -p 8500:8500 -p 8501:8501 -v {folder}:{folder}:ro tensorflow/serving \\
  {options}
```

`{MODELS}` holds absolute paths, as TF Serving wants them. After moving this folder, change
each `base_path` in it. Without the option for labels, a server that starts refuses every label,
because it checks them before it loads a model. With `--enable_batching`, requests that arrive
together run as one batch, and one event that cannot be used fails all of them; leave it out
where clients do not trust each other. Its metrics for Prometheus are at
`http://127.0.0.1:8501/monitoring/prometheus/metrics`; `hepdata-adapters serve` has none.

## Versions

The first version of a model gets the label `stable`, a later export the label `canary` until it
is promoted. **Ask for a label**: without one, TF Serving answers with the highest version that it
has loaded, so that the next export alone would move the requests to its canary. (`hepdata-adapters
serve` answers with the stable version then.) At most two versions of a model are served, three
during a change; older ones stay on disk.

```
hepdata-adapters promote {folder} --model NAME    # the canary becomes stable
hepdata-adapters rollback {folder} --model NAME   # the version that was stable before is so again
```

Both, like an export, change `{MODELS}`, from which a server starts, and write to `{ROLLOUT}/` the
configs that a *running* server needs, in order: it loads the new version, then moves the label,
then unloads the old version. TF Serving refuses a label on a version that is not loaded yet, so
none may be left out, and all must be applied before the next change:

```
hepdata-adapters rollout {folder} 127.0.0.1:8500
```

This sends each config with the `HandleReloadConfigRequest` of TF Serving's `ModelService` and
waits until its versions are available. `hepdata-adapters serve` looks at `{MODELS}` itself and
takes a change within seconds; `rollout` then finds that there is nothing left to do.

## Integrity and access

Each version holds the hashes of its files in `assets.extra/SHA256SUMS`. `hepdata-adapters serve`
refuses a version that has changed; TF Serving does not look, so check before it does, inside of
the folder of the version:

```
sha256sum -c assets.extra/SHA256SUMS
```

`hepdata-adapters serve` speaks plain HTTP and gRPC to this machine alone, reads neither
`{BATCHING}` nor `{MONITORING}`, and does not start where a file `ssl*` lies beside them.
TF Serving itself listens on all interfaces; its `--ssl_config_file` is for gRPC.
"""


def _model_text(name: str, folder: Path) -> str:
    extra = folder / "assets.extra"
    try:
        transform, _ = read_transform((extra / "transform.json").read_bytes())
        about = parse_json((extra / "metadata.json").read_bytes(), "metadata.json")
        golden = parse_json((extra / "golden.json").read_bytes(), "golden.json")
    except (OSError, ValueError, ArchiveError) as error:
        raise ArchiveError(f"{folder} was not written by this package: {error}") from error
    return f"""
## {name}

A {about["task"]} model; version {folder.name} is the newest. Signature `serving_default`:

| input | dtype | shape |
|---|---|---|
{_input_rows(transform)}

n is the number of events, m any width. A jagged branch is padded with any value to one width
for all events of the request (at least 1), and its real lengths stand beside it. Signature
`prepared` takes what the transform makes of an event: {_prepared(about["prepared"])}.
Both give `score`, float32: {_score_text(about["task"], about["outputs"])}.

{_rest_text(name, golden["events"], transform)}
In gRPC, send a `PredictRequest` with `model_spec.name` "{name}",
`model_spec.version_label` "stable" and the inputs above to `PredictionService.Predict`.
"""


def _input_rows(transform: Transform) -> str:
    rows = []
    for name, spec in input_signature(transform).items():
        sizes = ["n", *(str(size or "m") for size in spec.shape.as_list()[1:])]
        shape = "(n,)" if len(sizes) == 1 else f"({', '.join(sizes)})"
        rows.append(f"| `{name}` | {spec.dtype.name} | {shape} |")
    return "\n".join(rows)


def _prepared(inputs: Mapping[str, Sequence[int]]) -> str:
    """The inputs of the network itself, with the shape of an event."""
    return ", ".join(
        f"`{name}` ({', '.join(map(str, ['n', *shape]))})" for name, shape in inputs.items()
    )


def _score_text(task: str, outputs: Sequence[str]) -> str:
    if task == "multiclass":
        return f"(n, {len(outputs)}), the classes {', '.join(outputs)}"
    return f"(n,), {outputs[0]}"


def _rest_text(name: str, events: Sequence[Mapping[str, Any]], transform: Transform) -> str:
    # strict JSON has no NaN, so an event without any is the example
    rows = [json.dumps({"instances": [rest_row(event, transform)]}) for event in events]
    body = min(rows, key=lambda row: ("NaN" in row, len(row))).replace("NaN", "0.0")
    return f"""\
```
curl http://127.0.0.1:8501/v1/models/{name}/labels/stable:predict \\
  -H 'Content-Type: application/json' \\
  -d {shlex.quote(body)}
```

The answer is `{{"predictions": [...]}}`, in the order of the events. TF Serving reads the bare
word `NaN` where a value is missing (`hepdata-adapters serve` takes `null` as well). An event that
cannot be used fails the whole request, with status 400 and the name of the branch.
"""


_PROOF = """
## What was tested

The test suite of hepdata-adapters parses the configs with TF Serving's official protobufs
(those of batching and monitoring are rebuilt from their published fields), checks that each
label of a sequence is on a version that the config before it loads, loads every SavedModel back
and compares its answers with the golden predictions, and serves it behind the official gRPC
services in Python. **Nothing was proven against the C++ `tensorflow_model_server`**: no binary
could be had where this was written. A test starts it with the command above and compares its
answers; it runs where the binary is on PATH.
"""
