"""The sections of the page on features, lengths, inputs and correlations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hepdata_adapters.common.core.columns import Jagged
from hepdata_adapters.common.core.text import number
from hepdata_adapters.common.events.layout import Drop, ResolvedFeature
from hepdata_adapters.common.report import text as words
from hepdata_adapters.common.report.collect import Collected, Place, features_of
from hepdata_adapters.common.report.correlation import largest
from hepdata_adapters.common.report.distribution import Distribution
from hepdata_adapters.common.report.draw import draw_distribution, draw_images, draw_matrix
from hepdata_adapters.common.report.html import Child, Element, element, facts, picture, table
from hepdata_adapters.common.report.text import percent
from hepdata_adapters.common.specs.statistics import BranchStatistics, Lengths
from hepdata_adapters.common.stream.dataset import Dataset
from hepdata_adapters.common.transform.image import ImageTransform
from hepdata_adapters.common.transform.scaling import ValueScaling
from hepdata_adapters.common.transform.scaling_parameters import notes
from hepdata_adapters.common.transform.sets import SetTransform
from hepdata_adapters.common.transform.vector_feature import FeatureTransform

QUANTILES = (0.01, 0.16, 0.5, 0.84, 0.99)
PAIRS = 15


def feature_section(dataset: Dataset, found: Collected, branch: str, anchor: str) -> Element:
    """One prepared column: its values by class, and beside it what the model sees of them."""
    stats, raw = dataset.specs.branches[branch], found.raw[branch]
    pictures = [_distribution(raw, found, branch, f"{branch}: raw values")]
    uses: list[Element] = []
    for (place, name), feature in features_of(dataset.transform).items():
        if name == branch:
            pictures.append(_scaled(found, (place, name), feature))
            uses.append(_use(dataset, place, feature, found.scaled[place, name]))
    uses += [
        element("p", f"Input {name}: {words.image(made)}.")
        for name, made in dataset.transform.inputs.items()
        if isinstance(made, ImageTransform) and branch in made.branches
    ]
    remarks = dict.fromkeys(
        note for feature in _resolved(dataset, branch) for note in notes(feature, stats)
    )
    return element(
        "section",
        element("h3", branch),
        *(element("p", f"{note}: of no use to a model.", class_="alarm") for note in remarks),
        element("div", *pictures, class_="row"),
        element("div", _raw_facts(dataset, branch, stats), *uses, class_="row"),
        id=anchor,
        class_="feature",
    )


def lengths_section(dataset: Dataset, found: Collected) -> Iterator[Element]:
    """Each set of jagged branches with the same lengths, and where they are cut."""
    for names in found.together:
        known = dataset.specs.branches[names[0]].lengths
        if known is None or not known.events:
            continue
        cuts = _cuts(dataset, names)
        title = ", ".join(names)
        yield element("h3", title)
        described = [
            f"{place}: the first {width}; {percent(words.longer(known, width))} of events have "
            f"more, {percent(words.lost(known, width))} of all values are beyond, "
            f"{percent(words.padding(known, width))} of the places are padding"
            for place, width in cuts
        ]
        caption = (
            f"{number(known.mean)} values an event, at most {known.max:,}; "
            f"{percent(known.counts.get(0, 0) / known.events)} of events have none. "
            "A dashed line stands where events are cut."
        )
        png = draw_distribution(
            found.lengths[names[0]], found.groups, "values an event", "share of events / bin",
            sorted({width for _, width in cuts}),
        )  # fmt: skip
        listed = element("ul", *(element("li", line) for line in described))
        yield element(
            "div",
            picture(png, f"lengths of {title}", caption),
            element("div", listed),
            class_="row",
        )


def inputs_section(dataset: Dataset, found: Collected) -> Iterator[Element]:
    """The representations beside the vector."""
    for name, made in dataset.transform.inputs.items():
        yield element("h3", f"{name} ({made.kind})")
        yield _arrays(dataset, name)
        if isinstance(made, ImageTransform):
            yield element("p", f"{words.image(made)}.")
            yield from _mean_images(found, name, made)
            continue
        objects = dataset.specs.branches[made.branches[0]].lengths or Lengths(counts={})
        text = f"{number(objects.mean)} objects an event, each with {', '.join(made.branches)}."
        if isinstance(made, SetTransform):
            cut = "cut" if made.overflow == "truncate" else "refused"
            dropped = _dropped(dataset, Drop(made.branches[0], made.length))
            more = (
                f"{percent(words.longer(objects, made.length))} of events have more and are {cut}"
                if dropped is None
                else f"events with more are {words.left_out(*dropped)}"
            )
            text += (
                f" The first {made.length} are kept; {more}, "
                f"{percent(words.padding(objects, made.length))} of the places are padding."
            )
        yield element("p", text)


def correlation_section(dataset: Dataset, found: Collected) -> Iterator[Element]:
    """The matrix of the columns of the vector, and its largest numbers."""
    every = dataset.transform.feature_names
    names = [every[column] for column in found.columns]
    if len(names) < 2:
        yield element("p", "There are no two columns to correlate.")
        return
    matrix = found.correlation.matrix()
    shown = f"all {len(names)} columns of x" if len(names) == len(every) else (
        f"{len(names)} of {len(every)} columns of x: the first ones of every branch"
    )  # fmt: skip
    caption = (
        f"Pearson's linear correlation of scaled values, {shown}. Each pair is taken over the "
        "training events in which both are real, neither padding nor filled, counted as in all "
        "pictures; grey where one of them does not vary."
    )
    yield picture(draw_matrix(matrix, names), "correlation matrix", caption, wide=True)
    yield element("h3", "Largest correlations")
    rows: list[list[Child]] = [
        [names[pair.first], names[pair.second], f"{pair.r:+.3f}",
         f"{int(found.correlation.events[pair.first, pair.second]):,}"]
        for pair in largest(matrix, PAIRS)
    ]  # fmt: skip
    yield table(["column", "column", "r", "events"], rows, numbers=[2, 3])


def _distribution(found: Distribution, of: Collected, label: str, description: str) -> Element:
    if found.binning is None or not found.count:
        nothing = "no values" if not found.count else f"always {number(found.minimum)}"
        return element("p", f"{description}: {nothing}, nothing to draw.", class_="note")
    below, above = found.outside()
    edges = found.binning.edges
    outside = [
        f"{percent(share)} {side} {number(edge)}"
        for share, side, edge in ((below, "below", edges[0]), (above, "above", edges[-1]))
        if share
    ]
    caption = f"Outside of the picture: {', '.join(outside)}." if outside else ""
    return picture(draw_distribution(found, of.groups, label), description, caption)


def _scaled(found: Collected, place: Place, feature: ValueScaling) -> Element:
    where, branch = place
    label = f"{branch} in {where}: {words.scaling(feature)}"
    return _distribution(found.scaled[place], found, f"{branch} as {where} has it", label)


def _raw_facts(dataset: Dataset, branch: str, stats: BranchStatistics) -> Element:
    weighted = " (weighted)" if stats.weighted else ""
    kind = f"array of {stats.size}" if stats.kind == "array" else stats.kind
    rows: list[tuple[str, Child]] = [("raw values", f"{kind}, {stats.dtype}")]
    expressions = {c.name: c.expression for c in dataset.transform.preparation.columns}
    if branch in expressions:
        rows.append(("derived", element("code", expressions[branch])))
    infinite = stats.positive_infinity + stats.negative_infinity
    total = max(stats.count + stats.nan + infinite, 1)
    rows += [
        ("finite values", f"{stats.count:,}"),
        ("NaN", f"{stats.nan:,} ({percent(stats.nan / total)})"),
        ("infinite", f"{infinite:,} ({percent(infinite / total)})"),
    ]
    if stats.minimum is not None and stats.maximum is not None:
        quantiles = ", ".join(number(stats.quantile(q)) for q in QUANTILES)
        rows += [
            ("minimum, maximum", f"{number(stats.minimum)}, {number(stats.maximum)}"),
            (f"mean, std{weighted}", words.moments(stats.mean, stats.std)),
            (f"{', '.join(f'{100 * q:.0f}' for q in QUANTILES)} %{weighted}", quantiles),
        ]
    return facts(rows)


def _dropped(dataset: Dataset, drop: Drop) -> tuple[int, int] | None:
    """The events that a policy leaves out, and all; None where it is not the policy."""
    return dataset.specs.left_out(str(drop)) if drop in dataset.layout.drops else None


def _use(dataset: Dataset, place: str, feature: ValueScaling, found: Distribution) -> Element:
    lengths = dataset.specs.branches[feature.branch].lengths
    bad = _dropped(dataset, Drop(feature.branch))
    rows: list[tuple[str, Child]] = [
        (f"in {place}", element("code", words.scaling(feature))),
        ("clip", words.clip(feature)),
        ("missing", words.missing(feature, dropped=bad)),
    ]
    if isinstance(feature, FeatureTransform):
        long = _dropped(dataset, Drop(feature.branch, feature.width))
        rows.append(("columns", words.width(feature, lengths, long)))
    if found.count:
        rows += [
            ("real values", f"{found.count:,}"),
            ("minimum, maximum", f"{number(found.minimum)}, {number(found.maximum)}"),
            ("mean, std", words.moments(found.mean, found.std)),
        ]
    return facts(rows)


def _resolved(dataset: Dataset, branch: str) -> Iterator[ResolvedFeature]:
    layout = dataset.layout
    groups = [layout.features, *(given.features for given in layout.inputs.values())]
    for features in groups:
        yield from (feature for feature in features if feature.branch.name == branch)


def _cuts(dataset: Dataset, names: list[str]) -> list[tuple[str, int]]:
    """Where the events of these branches are cut: in x, branches of one width together; in sets."""
    widths: dict[int, list[str]] = {}
    for feature in dataset.transform.jagged:
        if feature.branch in names:
            widths.setdefault(feature.width, []).append(feature.branch)
    cuts = [
        ("x" if len(own) == len(names) else f"x ({', '.join(own)})", width)
        for width, own in sorted(widths.items())
    ]
    return cuts + [
        (name, made.length)
        for name, made in dataset.transform.inputs.items()
        if isinstance(made, SetTransform) and made.branches[0] in names
    ]


def _arrays(dataset: Dataset, name: str) -> Element:
    """The arrays that this input adds to a batch."""
    suffixes = ("", "_mask", "_cells", "_values")
    rows: list[list[Child]] = []
    for key, values in dataset.transform.empty.items():
        if key not in [name + suffix for suffix in suffixes]:
            continue
        content = values.content if isinstance(values, Jagged) else values
        first = "objects" if isinstance(values, Jagged) else "events"
        shape = " × ".join([first, *map(str, content.shape[1:])])
        rows.append([element("code", key), shape, str(content.dtype)])
    return table(["array", "shape", "dtype"], rows)


def _mean_images(found: Collected, name: str, made: ImageTransform) -> Iterator[Element]:
    if name not in found.images:
        yield element("p", "These images have too many cells to be drawn here.", class_="note")
        return
    events = np.maximum(found.accepted, 1)
    sums = found.images[name]
    extra = tuple(range(4, sums.ndim))
    flat: NDArray[np.float64] = sums.sum(axis=extra) if extra else sums
    present = np.flatnonzero(found.accepted).tolist()
    for number_, channel in enumerate(made.channels):
        what = "number of objects" if channel is None else f"sum of {channel}"
        caption = f"Mean image by class, {what} in each cell."
        if extra:
            caption += f" Summed over {', '.join(bins.branch for bins in made.axes[2:])}."
        images = [flat[group, number_] / events[group] for group in present]
        groups = [found.groups[group] for group in present]
        if images:
            png = draw_images(images, groups, made.axes[:2])
            yield picture(png, f"mean image of {name}: {what}", caption, wide=True)
