"""The README of an exported ONNX model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hepdata_serving.onnx.graph import GraphInput


def readme(
    name: str,
    task: str,
    outputs: Sequence[str],
    inputs: Sequence[GraphInput],
    events: Sequence[Any],
) -> str:
    """What the graph takes and gives, and how to run it; ``events`` without NaN."""
    # the golden event that is easiest to read
    event = min(map(repr, events), key=len)
    each = f"(events, {len(outputs)})" if task == "multiclass" else "(events)"
    rows = "\n".join(
        f"| `{given.name}` | {given.dtype} | ({', '.join(map(str, given.shape))}) |"
        for given in inputs
    )
    return f"""\
# {name}

A {task} model as one ONNX graph, `model.onnx`, that takes raw events: the transform of training
is part of it.

| input | dtype | shape |
|---|---|---|
{rows}

Sizes that are names may be any, other than 0; `events` is the same for all inputs. A list is
padded with any value to one width, and its real length stands beside it. Those whose second
dimension has one name are padded to one width.

| output | dtype | shape | |
|---|---|---|---|
| `score` | float32 | {each} | {", ".join(outputs)}; NaN where not `valid` |
| `valid` | bool | (events) | whether the event may be scored |

A graph cannot raise an error for a value, so `valid` is false, and the score NaN, for an event
with a value that the transform refuses: NaN or infinity in a branch without a fill value, a
number that float32 cannot hold, a list that is too long and must not be cut, a length that does
not fit its padded list. A client has to look at one of the two.

In Python, with events named by branch (`pip install "hepdata-adapters[onnx]"`):

```python
from hepdata_serving.onnx.runtime import OnnxModel

model = OnnxModel(".")
model.predict([{event}])
```

On files and over HTTP (`hepdata-adapters[onnx,serve]`), from this folder:

```
hepdata-adapters predict . FILES -o scores.root
hepdata-adapters serve . --port 8080
curl http://127.0.0.1:8080/predictions/{name} -d '{{"instances": []}}'
```

All of these refuse a bad event by an error that names it and its branch, `None` (`null`) stands for
NaN, and a model that has changed (`SHA256SUMS`) or does not reproduce its golden examples
(`golden.json`) is not loaded. With ONNX Runtime alone, which looks at neither (`sha256sum -c
SHA256SUMS` does), in any of its languages, give it the inputs above:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
score, valid = session.run(["score", "valid"], inputs)
```
"""
