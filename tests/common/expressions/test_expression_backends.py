"""Expressions in numpy, torch, ONNX and TensorFlow: the same numbers, whatever is in padding."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.expressions import parse
from hepdata_adapters.common.expressions.functions import FUNCTIONS, REDUCTIONS

torch = pytest.importorskip("torch")
tf = pytest.importorskip("tensorflow")

from hepdata_adapters.tf.transform import expressions as in_tf  # noqa: E402
from hepdata_adapters.torch.transform import expressions as in_torch  # noqa: E402

FLAT = {"f": np.float32, "g": np.float64, "i": np.int32, "b": np.bool_, "u": np.uint64}
JETS = {"j": np.float32, "k": np.float64, "t": np.bool_}
LEPTONS = {"l": np.float64, "q": np.int16}
NAMES = {*FLAT, *JETS, *LEPTONS, "v"}
NUMBERS = st.one_of(
    st.floats(-100, 100, width=32),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, np.nan, np.inf, -np.inf, 1e-9]),
)


def values_of(draw: Any, dtype: Any, size: int) -> np.ndarray:
    kind = np.dtype(dtype).kind
    elements = {
        "f": NUMBERS, "b": st.booleans(), "i": st.integers(-5, 5), "u": st.integers(0, 2**50),
    }[kind]  # fmt: skip
    return np.array(draw(st.lists(elements, min_size=size, max_size=size)), dtype)


@st.composite
def events(draw: Any) -> dict[str, Any]:
    """Columns of a few events: flat ones, an array of three, and two groups of lists."""
    n = draw(st.integers(1, 5))
    columns: dict[str, Any] = {name: values_of(draw, kind, n) for name, kind in FLAT.items()}
    columns["v"] = values_of(draw, np.float32, 3 * n).reshape(n, 3)
    for group in (JETS, LEPTONS):
        lengths = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        for name, kind in group.items():
            columns[name] = Jagged(values_of(draw, kind, int(offsets[-1])), offsets)
    return columns


def trees(leaves: list[str]) -> st.SearchStrategy[str]:
    """Texts over these branches: several values an event if the branches have."""
    smooth = ("sin", "cos", "tanh", "atan", "asinh", "isnan", "isfinite", "abs", "sign")
    smooth += ("sqrt", "log", "log1p", "log2", "log10", "asin", "acos", "acosh", "atanh")
    step = ("floor", "ceil", "round")

    def extended(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        pair = st.tuples(inner, inner)
        return st.one_of(
            st.tuples(st.sampled_from(smooth), inner).map(lambda t: f"{t[0]}({t[1]})"),
            st.tuples(st.sampled_from(step), st.sampled_from(leaves)).map(
                lambda t: f"{t[0]}({t[1]})"
            ),
            st.tuples(st.sampled_from("+-*/"), pair).map(lambda t: f"({t[1][0]} {t[0]} {t[1][1]})"),
            st.tuples(st.sampled_from(["hypot", "atan2", "min", "max"]), pair).map(
                lambda t: f"{t[0]}({t[1][0]}, {t[1][1]})"
            ),
            st.tuples(st.sampled_from(leaves), pair).map(
                lambda t: f"({t[0]} > 0 ? {t[1][0]} : {t[1][1]})"
            ),
        )

    return st.recursive(st.sampled_from([*leaves, "2", "0.5", "-3"]), extended, max_leaves=5)


PER_JET = trees(["j", "k", "t", "f", "i"])
PER_LEPTON = trees(["l", "q", "g", "b"])
PER_EVENT = trees(["f", "g", "i", "b", "v[1]"])


@st.composite
def texts(draw: Any) -> str:
    """Any shape: of events, of objects, reduced, filtered, subscripted."""
    reduction = draw(st.sampled_from(REDUCTIONS))
    jets, leptons, event = draw(PER_JET), draw(PER_LEPTON), draw(PER_EVENT)
    return draw(
        st.sampled_from([
            f"{event} + 0 * g",
            f"{jets} + 0 * j",
            f"{reduction}({jets} + 0 * k)",
            f"sum(v) + {event}",
            f"{reduction}((j + k * 0)[k > {event}])",
            f"(l[q > 0][{draw(st.integers(-3, 3))}] < {event}) | any({jets} > j)",
            f"k[argmax(j)] + l[argmin(q)] + {leptons} * 0 + l",
            "count(j > 1 & !t) % 3 + length(j) ** 2",
        ])
    )  # fmt: skip


def close(found: Any, wanted: Any) -> None:
    assert found.dtype == wanted.dtype or {found.dtype.kind, wanted.dtype.kind} == {"u", "f"}
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def padded(column: Jagged, more: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows with columns to spare, and what no value may come from behind each length."""
    width = int(column.lengths.max(initial=0)) + more
    poison = {"f": np.nan, "b": True}.get(column.dtype.kind, 99)
    values = np.full((len(column), width), poison, column.dtype)
    values[np.arange(width) < column.lengths[:, None]] = column.content
    return values, column.lengths


def lists_of(values: np.ndarray, lengths: np.ndarray) -> Jagged:
    inside = np.arange(values.shape[1]) < lengths[:, None]
    return Jagged(values[inside], np.concatenate([[0], np.cumsum(lengths)]))


def inputs(columns: dict[str, Any], names: Any, package: Any, tensor: Any) -> dict[str, Any]:
    found = {}
    for number, name in enumerate(sorted(names)):
        column = columns[name]
        if isinstance(column, Jagged):
            found[name] = package.Padded(*map(tensor, padded(column, number % 3)))
        else:
            found[name] = tensor(column)
    return found


def compare(found: Any, wanted: Any) -> None:
    if isinstance(wanted, Jagged):
        found = lists_of(*(np.asarray(part) for part in found))
        assert found.lengths.tolist() == wanted.lengths.tolist()
        close(found.content, wanted.content)
    else:
        close(np.asarray(found), wanted)


def agree(text: str, columns: dict[str, Any]) -> None:
    expression = parse(text, NAMES)
    used = {name: columns[name] for name in expression.names}
    wanted = expression(used)
    torch_inputs = inputs(used, used, in_torch, torch.from_numpy)
    value, valid = in_torch.checked(expression, torch_inputs)
    assert valid.all()
    compare(value, wanted)
    compare(in_tf.evaluate(expression, inputs(used, used, in_tf, tf.constant)), wanted)


@settings(max_examples=60)
@given(columns=events(), text=texts())
def test_torch_and_tensorflow_compute_what_numpy_does(columns, text):
    agree(text, columns)


# masses are differences of large squares, and compared where these do not cancel
STABLE = {n: len(f.arguments) for n, f in FUNCTIONS.items() if "mass" not in n}
MASSES = [
    "mass(j, k, j, 9 + abs(j) + abs(k))",
    "invariant_mass(1 + tanh(k) ** 2, tanh(j), k, 5)",
    "invariant_masses(3, tanh(j), k, 1, 2, tanh(k), j, 0.5)",
]
CASES = [
    *(f"{name}({', '.join('jtfk'[i % 4] for i in range(n))})" for name, n in STABLE.items()),
    *(f"{name}(k)" for name, n in STABLE.items() if n == 1), *MASSES,
    *(f"{name}(q)" for name in REDUCTIONS), *(f"{name}(v)" for name in REDUCTIONS),
    "i % 3", "i % 0", "i % -3", "f % 2", "f % -2.5", "u % 7", "u - 3", "u > 4", "u + i", "u",
    "-b", "b + b", "v + f", "v * v", "v[i > 0 ? 1 : 2]", "v[v > 0]", "2 ** 0.5 + f", "f ** -1",
    "k[i]", "k[-1]", "k[3]", "v[-1]", "0 < f <= 5 != i",
    "deltaphi(j, k[0])", "f * pi()", "k[k > 0][-2]", "sum(k[k == k])",
]  # fmt: skip


def made(n: int, seed: int, longest: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)

    def some(dtype: Any, size: int) -> np.ndarray:
        if np.dtype(dtype).kind != "f":
            low = 0 if np.dtype(dtype).kind in "bu" else -5
            return rng.integers(low, 2 if dtype is np.bool_ else 6, size).astype(dtype)
        usual = rng.normal(scale=3, size=size)
        rare = rng.choice([np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 1e-12, 300], size)
        return np.where(rng.random(size) < 0.1, rare, usual).astype(dtype)

    columns: dict[str, Any] = {name: some(kind, n) for name, kind in FLAT.items()}
    columns["v"] = some(np.float32, 3 * n).reshape(n, 3)
    for group in (JETS, LEPTONS):
        offsets = np.concatenate([[0], np.cumsum(rng.integers(0, longest, n))])
        for name, kind in group.items():
            columns[name] = Jagged(some(kind, int(offsets[-1])), offsets)
    return columns


@pytest.mark.parametrize("text", CASES)
def test_every_function_agrees(text):
    agree(text, made(60, 1, 7))
    agree(text, made(3, 2, 1))  # no objects at all


GRAPHS = {
    "of all kinds": [
        "sum(j[abs(k) < 3]) + max(k) * f + j[argmax(k)] + j[1] + count(j > f)",
        "j[j > 0 & k < 5]",
        "deltaR(j[0], j[1], k[0], k[1]) + l[-1]",
        *MASSES,
        "i % 3 + count(q % 2 == 0)",
        "any(t) | all(l > 0) ? sqrt(abs(g)) : log10(abs(f))",
    ],
    "of all functions": [
        f"{name}({', '.join('gf'[i % 2] for i in range(n))})" for name, n in STABLE.items()
    ],
}
USED = ("f", "g", "i", "j", "k", "l", "q", "t")


class Module(torch.nn.Module):
    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self.expressions = [parse(text, NAMES) for text in texts]
        self.lists = [name for name in USED if name not in FLAT]

    def forward(self, inputs: dict[str, Any]) -> list[Any]:
        columns = {name: inputs[name] for name in USED if name in FLAT}
        for name in self.lists:
            columns[name] = in_torch.Padded(inputs[name], inputs[f"{name}_length"])
        found = []
        for expression in self.expressions:
            value = in_torch.evaluate(expression, columns)
            found.extend(value if isinstance(value, in_torch.Padded) else [value])
        return found


def dense(columns: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for number, name in enumerate(USED):
        if isinstance(columns[name], Jagged):
            values, lengths = padded(columns[name], 1 + number % 3)
            found |= {name: values, f"{name}_length": lengths}
        else:
            found[name] = columns[name]
    return found


def compare_all(texts: list[str], columns: dict[str, Any], outputs: list[np.ndarray]) -> None:
    left = iter(outputs)
    for text in texts:
        expression = parse(text, NAMES)
        wanted = expression({name: columns[name] for name in expression.names})
        compare((next(left), next(left)) if isinstance(wanted, Jagged) else next(left), wanted)
    assert not list(left)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", GRAPHS)
def test_exported_and_onnx_graphs_take_any_number_of_events_and_objects(name):
    onnxruntime = pytest.importorskip("onnxruntime")
    texts = GRAPHS[name]
    module = Module(texts).eval()
    example = {key: torch.from_numpy(value) for key, value in dense(made(5, 3, 6)).items()}
    events = torch.export.Dim("n")
    shapes = {
        key: {0: events, **({1: torch.export.Dim.DYNAMIC} if value.ndim == 2 else {})}
        for key, value in example.items()
    }
    program = torch.export.export(module, (example,), dynamic_shapes=(shapes,), strict=False)
    onnx = torch.onnx.export(program, dynamo=True, external_data=False, verbose=False)
    file = io.BytesIO()
    onnx.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for columns in (made(40, 4, 9), made(1, 5, 2), made(3, 6, 1)):
        given = dense(columns)
        tensors = {key: torch.from_numpy(value) for key, value in given.items()}
        compare_all(texts, columns, [t.numpy() for t in program.module()(tensors)])
        names = [argument.name for argument in session.get_inputs()]
        feed = dict(zip(names, [given[key] for key in example], strict=True))
        compare_all(texts, columns, session.run(None, feed))


def test_a_tf_function_takes_any_number_of_events_and_objects():
    texts = [text for group in GRAPHS.values() for text in group]
    expressions = [parse(text, NAMES) for text in texts]
    example = dense(made(5, 3, 6))
    signature = {key: tf.TensorSpec([None] * v.ndim, v.dtype) for key, v in example.items()}

    @tf.function(input_signature=[signature])
    def graph(inputs):
        columns = {name: inputs[name] for name in USED if name in FLAT}
        for name in USED:
            if name not in FLAT:
                columns[name] = in_tf.Padded(inputs[name], inputs[f"{name}_length"])
        found = []
        for expression in expressions:
            value = in_tf.evaluate(expression, columns)
            found.extend(value if isinstance(value, in_tf.Padded) else [value])
        return found

    for columns in (made(40, 4, 9), made(1, 5, 2), made(3, 6, 1)):
        outputs = graph({key: tf.constant(value) for key, value in dense(columns).items()})
        compare_all(texts, columns, [output.numpy() for output in outputs])


def test_lists_of_different_lengths_are_marked_by_torch_and_refused_by_tensorflow():
    columns = {
        "j": Jagged.from_lists([[1.0], [2.0, 3.0], []]),
        "l": Jagged.from_lists([[1.0], [2.0], []]),
    }
    expression = parse("sum(j * l)", NAMES)
    with pytest.raises(InvalidValueError, match="'j' has 2 values and 'l' has 1") as fault:
        expression(columns)
    assert fault.value.row == 1
    found = in_torch.checked(expression, inputs(columns, columns, in_torch, torch.from_numpy))
    assert found.valid.tolist() == [True, False, True]
    assert found.value[[0, 2]].tolist() == [1.0, 0.0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="lists of different lengths"):
        in_tf.evaluate(expression, inputs(columns, columns, in_tf, tf.constant))


@pytest.mark.parametrize("package", [in_torch, in_tf])
def test_what_does_not_fit_is_refused(package):
    tensor = {in_torch: torch.from_numpy, in_tf: tf.constant}[package]
    columns = inputs(made(4, 1, 3), NAMES, package, tensor)
    for text in ("sum(f)", "v[3]", "j[k]", "j[0.5 * i]", "1 + 1"):
        with pytest.raises(ConfigError):
            package.evaluate(parse(text, NAMES), columns)
