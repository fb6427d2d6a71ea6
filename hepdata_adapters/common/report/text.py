"""What the transform does to a feature, in words."""

from __future__ import annotations

from hepdata_adapters.common.core.text import number
from hepdata_adapters.common.report.binning import BINS, CONTRAST, DECADES, TAIL
from hepdata_adapters.common.specs.statistics import Lengths
from hepdata_adapters.common.transform.image import ImageBins, ImageTransform
from hepdata_adapters.common.transform.scaling import ValueScaling
from hepdata_adapters.common.transform.vector_feature import FeatureTransform

BINNING = (
    f"Bins: {BINS} of equal width from the {100 * TAIL:g} % to the {100 - 100 * TAIL:g} % quantile "
    "of the training values, or out to the minimum and maximum where these are near; one for each "
    f"whole number where integers have up to {BINS} different ones. The horizontal axis is "
    "logarithmic where all values are positive and these quantiles are more than a factor "
    f"{DECADES:.0f} apart, the vertical one where the highest bin is more than {CONTRAST:.0f} "
    "times the median of the filled ones."
)


def moments(mean: float, std: float) -> str:
    """Mean and standard deviation; what rounding leaves of a mean of 0 is 0.

    >>> moments(1e-10, 1.0)
    '0, 1'
    """
    return f"{number(0.0 if abs(mean) < 1e-6 * std else mean)}, {number(std)}"


def percent(share: float) -> str:
    """A share of 1 that never rounds something to nothing, or nearly all to all.

    >>> percent(0.5), percent(0.00001), percent(0.99999), percent(0.0)
    ('50.0 %', 'less than 0.1 %', 'more than 99.9 %', '0 %')
    """
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    if share < 0.001:
        return "less than 0.1 %"
    return "more than 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


def scaling(feature: ValueScaling) -> str:
    """The formula from a raw value to what the model sees.

    >>> scaling(ValueScaling(branch="pt", dtype="float32", function={"kind": "log"}, center=3.5,
    ...                      factor=0.5))
    '(log(value) − 3.5) / 2'
    """
    text = "value" if feature.function is None else feature.function.text
    if feature.center:
        sign = "−" if feature.center > 0 else "+"
        text = f"{text} {sign} {number(abs(feature.center))}"
        text = f"({text})" if feature.factor != 1 else text
    if feature.factor != 1:
        divisor = number(1 / feature.factor) if feature.factor else "∞"
        text = f"{text} / {divisor}"
    return "unchanged" if text == "value" else text


def clip(feature: ValueScaling) -> str:
    """The limits of the raw values."""
    low, high = feature.clip or (None, None)
    if low is None and high is None:
        return "none"
    if low is None:
        return f"to at most {number(high or 0.0)}"
    return f"to at least {number(low)}" if high is None else f"to {number(low)} … {number(high)}"


def left_out(events: int, every: int) -> str:
    """How many events a policy leaves out.

    >>> left_out(60, 600)
    'left out: 60 of 600 selected events (10.0 %)'
    """
    share = f" ({percent(events / every)})" if every else ""
    return f"left out: {events:,} of {every:,} selected events{share}"


def missing(feature: ValueScaling, *, dropped: tuple[int, int] | None = None) -> str:
    """What NaN and infinity become; in the vector the mask tells of it.

    dropped: the events that are left out because of them, and all, where that is the policy.
    """
    outside = ", values outside of the domain" if feature.function is not None else ""
    if not feature.may_miss:
        return "cannot be missing"
    if dropped is not None:
        rest = "; values outside of the domain: an error" if outside else ""
        return f"events with NaN or infinity are {left_out(*dropped)}{rest}"
    if feature.missing is None:
        return f"NaN, infinity{outside}: an error"
    text = (
        f"NaN, infinity{outside}: become {number(feature.missing)} ({number(feature.fill)} scaled)"
    )
    if not isinstance(feature, FeatureTransform):
        return text
    return f"{text}, mask false" + (", with an indicator column" if feature.indicator else "")


def width(
    feature: FeatureTransform, lengths: Lengths | None, dropped: tuple[int, int] | None = None
) -> str:
    """The columns of ``x``, and what becomes of shorter and longer events.

    dropped: longer events that are left out, and all, where that is the policy.

    >>> jets = FeatureTransform(branch="pt", kind="jagged", dtype="float32", width=2)
    >>> width(jets, Lengths(counts={1: 3, 4: 1}))
    '2; 25.0 % of events are longer and cut, 37.5 % of the places are padding (0)'
    """
    columns = f"{feature.width}"
    if feature.indicator:
        columns += f", and {feature.width} of the indicator"
    if feature.kind != "jagged" or lengths is None:
        return columns
    cut = "cut" if feature.overflow == "truncate" else "refused"
    long = f"{percent(longer(lengths, feature.width))} of events are longer and {cut}"
    if dropped is not None:
        long = f"longer events are {left_out(*dropped)}"
    return (
        f"{columns}; {long}, {percent(padding(lengths, feature.width))} of the places are padding "
        f"({number(feature.pad)})"
    )


def image(made: ImageTransform) -> str:
    """Bins and channels of an image."""
    channels = ", ".join("number of objects" if c is None else f"sum of {c}" for c in made.channels)
    bins = " × ".join(map(axis, made.axes))
    centred = "; the first object is moved to 0" if made.center == "leading" else ""
    outside = "counted and left out" if made.outside == "count" else "an error"
    return f"{bins}; channels: {channels}; objects outside: {outside}{centred}"


def axis(bins: ImageBins) -> str:
    """One axis of an image."""
    periodic = ", periodic" if bins.periodic else ""
    low, high = bins.edges[0], bins.edges[-1]
    return f"{bins.branch} ({bins.bins} bins from {number(low)} to {number(high)}{periodic})"


def longer(lengths: Lengths, width: int) -> float:
    """The share of events with more than ``width`` values.

    >>> longer(Lengths(counts={0: 1, 2: 2, 5: 1}), 2)
    0.25
    """
    beyond = sum(events for length, events in lengths.counts.items() if length > width)
    return beyond / max(lengths.events, 1)


def lost(lengths: Lengths, width: int) -> float:
    """The share of values beyond the first ``width``.

    >>> lost(Lengths(counts={0: 1, 2: 2, 6: 1}), 2)
    0.4
    """
    beyond = sum(events * max(0, length - width) for length, events in lengths.counts.items())
    return beyond / max(sum(length * events for length, events in lengths.counts.items()), 1)


def padding(lengths: Lengths, width: int) -> float:
    """The share of the places of all events that hold no value.

    >>> padding(Lengths(counts={0: 1, 2: 1}), 2)
    0.5
    """
    free = sum(events * max(0, width - length) for length, events in lengths.counts.items())
    return free / max(width * lengths.events, 1)
