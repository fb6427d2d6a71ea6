"""A trained model to a folder that TorchServe serves: one self-contained archive a model.

The archive holds the model (``model.pt2``), the transform of training (``transform.json``)
with the very source code that trained, golden examples and metadata. The same input gives
the same bytes.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hepdata_adapters.common.core.errors import HepDataError
from hepdata_adapters.common.inference.raw_events import without_nan
from hepdata_serving.answers import predict_events
from hepdata_serving.archive import source_files, write_atomically, zip_bytes
from hepdata_serving.checks import check_no_user_functions, check_scores
from hepdata_serving.errors import ExportError
from hepdata_serving.exportable import Exportable
from hepdata_serving.golden import check_golden
from hepdata_serving.integrity import SUMS, sums_text
from hepdata_serving.metadata import json_text
from hepdata_serving.torchserve.config import STORE
from hepdata_serving.torchserve.program import load_program, save_program
from hepdata_serving.torchserve.versions import (
    announce,
    served_versions,
    version_text,
    versions_on_disk,
)

# a name that nothing on PYTHONPATH is likely to shadow: TorchServe imports it as a top module
_HANDLER = "hepdata_handler.py"
_HANDLER_MODULE = "hepdata_serving.torchserve.handler"


def export_torchserve(directory: Path, model: Exportable[torch.nn.Module]) -> Path:
    """Write the next version of a model, and the configs and README of the folder.

    Returns ``directory/model_store/NAME-VERSION.mar``. The first version is served to requests
    that name none; a later one to requests that name it, until it is promoted.

    Raises ConfigError for metadata that is not JSON; ExportError for a model that torch.export
    refuses or whose program predicts other values than the golden ones, and for a transform with
    a scaling function of the user's; ArchiveError for a folder whose configs are corrupt. After an
    error the folder serves what it served before.
    """
    check_no_user_functions(model.transform)
    before = served_versions(directory)  # refuses a corrupt folder before the work is done
    number = max(versions_on_disk(directory, model.name), default=0) + 1
    version = version_text(number)
    program = save_program(model.scorer, model.transform.zeros(3))
    score = load_program(program)
    check_scores(score, model.transform, model.classes)
    try:
        check_golden(
            model.events,
            model.expected,
            lambda given: predict_events(without_nan(given), model.transform, score),
        )
    except HepDataError as error:
        raise ExportError(f"the exported model is not the trained one: {error}") from error

    described = model.described(version, {"torch": torch.__version__})
    data = zip_bytes(_archive_files(model.name, version, program, described))
    path = write_atomically(directory / STORE / f"{model.name}-{version}.mar", data)
    announce(directory, before, model.name, number)
    readme = _readme(model.name, model.task, model.outputs, without_nan(model.events))
    write_atomically(directory / "README.md", readme.encode())
    return path


def _archive_files(
    name: str, version: str, program: bytes, described: Mapping[str, bytes]
) -> dict[str, bytes]:
    code = source_files([_HANDLER_MODULE])
    handler = code.pop(_HANDLER_MODULE.replace(".", "/") + ".py")
    manifest = {
        # a fixed date, because the archive's bytes must not depend on the day
        "createdOn": "01/01/1980 00:00:00",
        "archiverVersion": "0.12.0",
        "runtime": "python",
        "model": {"modelName": name, "modelVersion": version, "handler": _HANDLER},
    }
    files = {
        _HANDLER: handler,
        "model.pt2": program,
        **described,
        **{f"code/{path}": source for path, source in code.items()},
    }
    return files | {
        # which TorchServe reads, and may not unpack
        "MAR-INF/MANIFEST.json": json_text(manifest).encode(),
        SUMS: sums_text(files).encode(),
    }


def _readme(name: str, task: str, outputs: Sequence[str], events: Sequence[Any]) -> str:
    bodies = [json.dumps({"instances": [event]}, allow_nan=False) for event in events]
    body = min(bodies, key=len)  # the golden event that is easiest to read
    each = f"one list a event: {', '.join(outputs)}" if task == "multiclass" else outputs[0]
    return f"""\
# {name}

A {task} model that takes raw events, named by branch. Each prediction is {each}.

Serve it on this machine:

```
hepdata-adapters serve . --port 8080
```

or with TorchServe itself (Java 17 or newer), from this folder:

```
torchserve --foreground --ncs --ts-config config.properties --model-store model_store
```

Ask it:

```
curl http://127.0.0.1:8080/predictions/{name} -H 'Content-Type: application/json' \\
  -d {shlex.quote(body)}
```

This URL names no version and is answered by the stable one. The first export of a model is its
version 1.0 and stable; a later export to the same folder is the next version, which is served as
`/predictions/{name}/2.0` beside it and takes over when it is promoted:

```
hepdata-adapters promote . --model {name}     # the newest version becomes the stable one
hepdata-adapters rollback . --model {name}    # the version that was stable before is so again
```

Both change `models` and `load_models` in `config.properties`, and nothing else in it; a running
server takes that when it is started again. Two versions of a model are served at most, older ones
stay in `model_store/`.

The answer is `{{"predictions": [...]}}`, in the order of the events. `null` and `NaN` stand
for a missing value. A request with an event that cannot be used gets status 400 and the reason for
each such event.

`hepdata-adapters serve` says where management, metrics and gRPC listen, because it takes free ports
for them. With the `torchserve` command they are where `config.properties` says; metrics for
Prometheus are then at `http://127.0.0.1:8082/metrics`.

Each archive in `model_store/` holds everything: model, transform, the code of the transform,
golden examples, and the hashes of all of these (`SHA256SUMS`). The server refuses a model that has
changed or does not reproduce its golden examples. Settings of `config.properties` (https addresses
with a keystore or certificate, tokens, limits) are honoured by both commands above.
"""
