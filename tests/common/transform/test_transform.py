"""The transform against an independent computation with awkward, and its scaling."""

from __future__ import annotations

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.errors import ConfigError, InvalidValueError
from hepdata_adapters.common.core.ledger import Ledger
from hepdata_adapters.common.core.tally import ledger_of
from hepdata_adapters.common.inference.raw_events import columns_from_events, events_from_columns
from hepdata_adapters.common.transform.pipeline import Transform
from hepdata_adapters.common.transform.vector import FeatureTransform, Vectors, VectorTransform

number = st.floats(-1e3, 1e3, width=32) | st.sampled_from([float("nan"), float("inf"), 0.0])
events = st.lists(
    st.fixed_dictionaries(
        {
            "met": number,
            "corners": st.lists(number, min_size=3, max_size=3),
            "pt": st.lists(number, max_size=7),
            "id": st.lists(st.integers(-5, 5), max_size=7),
            "ok": st.booleans(),
        }
    ),
    min_size=1,
    max_size=12,
)
TRANSFORM = VectorTransform(
    features=(
        FeatureTransform(
            branch="met", kind="flat", dtype="float32", width=1, center=3, factor=0.25, missing=-1
        ),
        FeatureTransform(branch="corners", kind="array", dtype="float64", width=3, missing=0.5),
        FeatureTransform(
            branch="pt", kind="jagged", dtype="float32", width=4, center=-1, factor=2, missing=7
        ),
        FeatureTransform(branch="id", kind="jagged", dtype="int32", width=2, factor=0.5),
        FeatureTransform(branch="ok", kind="flat", dtype="bool", width=1),
    )
)
WHOLE = Transform.of_vector(TRANSFORM)


def reference(found: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """x and mask with awkward, a feature at a time."""
    columns, masks = [], []
    for feature in TRANSFORM.features:
        values = ak.Array([event[feature.branch] for event in found])
        if feature.kind == "flat":
            values = values[:, np.newaxis]
        if feature.kind == "jagged":
            values = ak.values_astype(values, np.float64)
        dense = ak.to_numpy(
            ak.fill_none(ak.pad_none(values, feature.width, clip=True), 1e30)
        ).astype(np.float64)
        padded = dense == 1e30
        bad = ~np.isfinite(dense)
        dense[bad] = feature.missing if feature.missing is not None else 0.0
        scaled = ((dense - feature.center) * feature.factor).astype(np.float32)
        columns.append(np.where(padded, np.float32(0), scaled))
        masks.append(~(padded | bad))
    return np.hstack(columns), np.hstack(masks)


def bad(values: list[float]) -> int:
    return int((~np.isfinite(values)).sum()) if values else 0


def counted(out: Vectors, transform: VectorTransform) -> dict[str, dict[str, list[int]]]:
    """What each event adds to the ledger, by kind and branch."""
    found: dict[str, dict[str, list[int]]] = {}
    for (kind, branch), counts in zip(transform.counted, out.counts.T, strict=True):
        found.setdefault(kind, {})[branch] = counts.tolist()
    return found


@settings(deadline=None, max_examples=200)
@given(events)
def test_transform_agrees_with_awkward(found):
    columns, faults = columns_from_events(found, WHOLE)
    assert not faults
    out = TRANSFORM(columns)
    x, mask = reference(found)
    np.testing.assert_array_equal(out.x, x)
    np.testing.assert_array_equal(out.mask, mask)
    assert out.lengths.tolist() == [[min(len(e["pt"]), 4), min(len(e["id"]), 2)] for e in found]
    counts = {
        "values beyond the pad length": {
            "pt": [max(len(e["pt"]) - 4, 0) for e in found],
            "id": [max(len(e["id"]) - 2, 0) for e in found],
        },
        "values filled (NaN or infinity)": {
            "met": [bad([e["met"]]) for e in found],
            "corners": [bad(e["corners"]) for e in found],
            "pt": [bad(e["pt"]) for e in found],
        },
    }
    assert counted(out, TRANSFORM) == counts
    assert out.x.dtype == np.float32
    assert len(TRANSFORM.feature_names) == out.x.shape[1] == TRANSFORM.num_features


@settings(deadline=None, max_examples=50)
@given(events)
def test_events_survive_the_way_to_columns_and_back(found):
    columns, _ = columns_from_events(found, WHOLE)
    again, faults = columns_from_events(events_from_columns(columns), WHOLE)
    assert not faults
    np.testing.assert_array_equal(TRANSFORM(again).x, TRANSFORM(columns).x)


def test_no_events_give_empty_arrays():
    columns, _ = columns_from_events([], WHOLE)
    assert TRANSFORM(columns).x.shape == (0, TRANSFORM.num_features)


def test_a_real_value_equal_to_the_pad_value_is_told_from_padding():
    """In MLaaS4HEP a padded zero looked like the real minimum."""
    transform = VectorTransform(
        features=(FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2),)
    )
    out = transform({"pt": Jagged.from_lists([[0.0]], np.float32)})
    assert out.x.tolist() == [[0.0, 0.0]]
    assert out.mask.tolist() == [[True, False]]


def test_nan_is_an_error_unless_a_policy_fills_it():
    feature = FeatureTransform(branch="x", kind="flat", dtype="float32", width=1)
    columns = {"x": np.array([1.0, np.nan], np.float32)}
    with pytest.raises(InvalidValueError, match=r"x holds NaN or infinity \(event 1"):
        VectorTransform(features=(feature,))(columns)
    filled = feature.model_copy(update={"missing": 2.0})
    transform = VectorTransform(features=(filled,))
    out = transform(columns)
    assert out.x.tolist() == [[1.0], [2.0]]
    assert out.mask.tolist() == [[True], [False]]
    assert counted(out, transform) == {"values filled (NaN or infinity)": {"x": [0, 1]}}


def test_a_value_too_large_for_float32_is_an_error_not_an_infinity():
    feature = FeatureTransform(branch="x", kind="flat", dtype="float64", width=1, missing=0)
    transform = VectorTransform(features=(feature,))
    with pytest.raises(InvalidValueError, match=r"x is too large for float32 \(event 1"):
        transform({"x": np.array([1.0, 1e300])})
    fitting = feature.model_copy(update={"center": 1e300, "factor": 1e-300})
    assert VectorTransform(features=(fitting,))({"x": np.array([2e300])}).x.tolist() == [[1.0]]


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint64"])
def test_a_factor_can_make_any_value_too_large_for_float32(dtype):
    """Only float64 branches were looked at; a float32 one gave an infinity without a word."""
    feature = FeatureTransform(branch="x", kind="flat", dtype=dtype, width=1, factor=1e30)
    transform = VectorTransform(features=(feature,))
    assert np.isfinite(transform({"x": np.array([1], dtype)}).x).all()
    with pytest.raises(InvalidValueError, match="x is too large for float32"):
        transform({"x": np.array([10**9], dtype)})


def test_a_fill_value_too_large_for_float32_is_refused():
    with pytest.raises(ValidationError, match="x: the fill value 1e\\+300 is too large"):
        FeatureTransform(branch="x", kind="flat", dtype="float32", width=1, missing=1e300)


def test_overlong_events_are_an_error_on_request():
    feature = FeatureTransform(
        branch="pt", kind="jagged", dtype="float32", width=1, overflow="error"
    )
    with pytest.raises(InvalidValueError, match="pt has 2 values, at most 1 fit"):
        VectorTransform(features=(feature,))({"pt": Jagged.from_lists([[1.0, 2.0]])})


def test_the_ledger_holds_what_a_transform_counts():
    ledger = Ledger()
    pt = FeatureTransform(
        branch="pt", kind="jagged", dtype="float32", width=1, missing=0, clip=(None, 5)
    )
    transform = VectorTransform(features=(pt,))
    for lists in ([[1.0, np.nan], [9.0, 9.0, 9.0]], [[], [np.inf]]):
        out = transform({"pt": Jagged.from_lists(lists, np.float32)})
        ledger.merge(ledger_of(out.counts, transform.counted))
    assert ledger.to_dict() == {
        "events with values beyond the pad length": {"pt": 2},
        "values beyond the pad length": {"pt": 3},
        "values clipped": {"pt": 3},
        "values filled (NaN or infinity)": {"pt": 2},
    }


def test_only_lines_that_can_occur_are_counted():
    def lines(**options):
        feature = FeatureTransform(branch="x", **{"dtype": "float32", "width": 1} | options)
        return [kind for kind, _ in VectorTransform(features=(feature,)).counted]

    assert lines(kind="flat") == []
    assert lines(kind="jagged", overflow="error") == []
    assert lines(kind="flat", dtype="int32", missing=0) == []
    filled = ["values filled (NaN or infinity)"]
    assert lines(kind="flat", missing=0) == filled
    # an integer has no NaN, but not each has a logarithm
    logarithm = {"kind": "log"}
    assert lines(kind="flat", dtype="int32", missing=1, function=logarithm) == filled
    assert lines(kind="flat", dtype="int32", missing=1, function=logarithm, clip=(1, None)) == [
        "values clipped"
    ]


# --- indicators, pads and the way back -------------------------------------------------------


def test_an_indicator_is_one_where_a_value_was_missing():
    pt = FeatureTransform(
        branch="pt", kind="jagged", dtype="float32", width=3, missing=5, indicator=True, pad=-1
    )
    met = FeatureTransform(
        branch="met", kind="flat", dtype="float32", width=1, indicator=True, missing=0
    )
    transform = VectorTransform(features=(pt, met))
    columns = {
        "pt": Jagged.from_lists([[1.0, np.nan], []], np.float32),
        "met": np.array([np.inf, 2.0], np.float32),
    }
    out = transform(columns)
    assert transform.feature_names == [
        "pt[0]", "pt[1]", "pt[2]", "pt_missing[0]", "pt_missing[1]", "pt_missing[2]",
        "met", "met_missing",
    ]  # fmt: skip
    assert transform.num_features == 8
    assert out.x.tolist() == [[1, 5, -1, 0, 1, 0, 0, 1], [-1, -1, -1, 0, 0, 0, 2, 0]]
    yes, no = True, False
    assert out.mask.tolist() == [
        [yes, no, no, yes, yes, no, no, yes], [no, no, no, no, no, no, yes, yes],
    ]  # fmt: skip


def test_an_indicator_of_the_name_of_a_branch_is_refused():
    x = FeatureTransform(
        branch="x", kind="flat", dtype="float32", width=1, missing=0, indicator=True
    )
    other = x.model_copy(update={"branch": "x_missing", "indicator": False})
    with pytest.raises(ValidationError, match="two columns would be called 'x_missing'"):
        VectorTransform(features=(x, other))


@settings(deadline=None, max_examples=100)
@given(events)
def test_inverse_gives_the_structure_and_the_values_back(found):
    columns, _ = columns_from_events(found, WHOLE)
    out = TRANSFORM(columns)
    back = TRANSFORM.inverse(out.x, out.mask, out.lengths)
    assert list(back) == [feature.branch for feature in TRANSFORM.features]
    for feature in TRANSFORM.features:
        wanted = [np.atleast_1d(event[feature.branch])[: feature.width] for event in found]
        column = back[feature.branch]
        lists = (
            column.to_lists()
            if isinstance(column, Jagged)
            else column.reshape(len(found), -1).tolist()
        )
        assert [len(values) for values in lists] == [len(values) for values in wanted]
        flat = np.concatenate([values.astype(float) for values in wanted])
        flat[~np.isfinite(flat)] = np.nan
        np.testing.assert_allclose(np.concatenate(lists), flat, rtol=1e-6, atol=1e-6)


def test_without_lengths_a_list_ends_with_its_last_real_value():
    pt = FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=3, missing=0)
    columns = {"pt": Jagged.from_lists([[1.0, np.nan], [np.nan, 2.0], []], np.float32)}
    expected = {False: [1, 2, 0], True: [2, 2, 0]}
    for indicator, lengths in expected.items():
        feature = pt.model_copy(update={"indicator": indicator})
        transform = VectorTransform(features=(feature,))
        out = transform(columns)
        back = transform.inverse(out.x, out.mask)["pt"]
        assert back.lengths.tolist() == lengths
        exact = transform.inverse(out.x, out.mask, out.lengths)["pt"]
        np.testing.assert_array_equal(exact.content, columns["pt"].content)


def test_inverse_refuses_arrays_of_another_shape():
    out = TRANSFORM({name: columns_from_events([], WHOLE)[0][name] for name in WHOLE.columns})
    with pytest.raises(ConfigError, match=r"mask takes shape \(0, 11\), not \(0, 2\)"):
        TRANSFORM.inverse(out.x, out.mask[:, :2])


def test_a_saved_transform_is_the_same():
    quantile = {"kind": "quantile", "knots": (0.1, 0.3), "levels": (0, 1)}
    x = FeatureTransform(
        branch="x",
        kind="flat",
        dtype="float64",
        width=1,
        function=quantile,
        clip=(0.1, 0.3),
        pad=-1,
    )
    transform = VectorTransform(features=(*TRANSFORM.features, x))
    assert VectorTransform.model_validate_json(transform.model_dump_json()) == transform
    with pytest.raises(ValidationError, match="version"):
        VectorTransform.model_validate({**transform.model_dump(), "version": 1})


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (5, "an event is an object of branches"),
        ({"met": 1.0}, "branch 'corners' is missing"),
        ({"met": "high"}, "branch 'met' takes numbers, not a string"),
        ({"met": True}, "branch 'met' takes numbers, not a boolean"),
        ({"met": [1.0]}, "branch 'met' takes numbers, not a list"),
        ({"met": 1e300}, "is not in float32's range"),
        ({"met": 10**400}, "is not in float32's range"),
        ({"corners": [1.0]}, "branch 'corners' takes 3 numbers, not 1"),
        ({"pt": 3.0}, "branch 'pt' takes a list, not 3.0"),
        ({"id": [1.5]}, "branch 'id' takes integers, not 1.5"),
        ({"id": [2**40]}, "is not in int32's range"),
        ({"id": [None]}, "branch 'id' takes integers, not null"),
        ({"ok": 2}, "branch 'ok' takes true or false"),
    ],
)
def test_bad_events_are_refused_alone(event, reason):
    good = {"met": 1.0, "corners": [1, 2, 3], "pt": [1.0], "id": [1], "ok": True}
    bad = event if not isinstance(event, dict) or event == {"met": 1.0} else good | event
    columns, faults = columns_from_events([good, bad, good], WHOLE)
    assert len(columns["met"]) == 2
    assert list(faults) == [1]
    assert reason in faults[1]


@pytest.mark.parametrize("dtype", ["object", "S4", "nonsense", "M8[s]"])
def test_a_transform_of_other_than_numbers_is_refused(dtype):
    with pytest.raises(ValueError, match="not a numeric dtype"):
        FeatureTransform(branch="x", kind="flat", dtype=dtype, width=1)
