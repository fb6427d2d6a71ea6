"""What an epoch of training events is made of, when it is not all of them once. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hepdata_adapters.common.config.dataset_config import Sampling
from hepdata_adapters.common.core.errors import ConfigError
from hepdata_adapters.common.events.class_counts import Counts


class ClassShare(NamedTuple):
    """One class: how many training events there are, how many an epoch delivers, and as what.

    factor: what the weight of each event is multiplied with. weight: the sum of the weights an
    epoch delivers (its expectation, where events are drawn).
    """

    events: int
    delivered: int
    factor: float
    weight: float


def class_balance(counts: Counts, sampling: Sampling) -> dict[int, ClassShare]:
    """The share of each class in an epoch.

    ``over`` repeats events until no class has fewer than its proportion of an epoch in which the
    class that is best off comes once; ``under`` leaves events out (others in each epoch) until
    the class that is worst off comes once; ``weights`` keeps the events and scales their weights
    so that their sums have the proportions. ``resample`` draws events in proportion to |weight|,
    which leaves each with the weight ± the mean of |weight|: the sums stay what they are.

    Raises ConfigError for a proportion of a class that has no events, and for sums of weights
    that cannot be scaled.
    """
    classes = counts.classes()
    events = {number: sum(sum(c.events) for c in counts.of(number)) for number in classes}
    totals = {number: sum(c.total for c in counts.of(number)) for number in classes}
    copies = {number: sum(sum(c.copies) for c in counts.of(number)) for number in classes}
    shares = _proportions(sampling.proportions, classes)
    delivered = copies if sampling.resample else dict(events)
    factors = dict.fromkeys(classes, 1.0)
    if sampling.balance in ("over", "under"):
        choose = max if sampling.balance == "over" else min
        whole = choose(events[number] / shares[number] for number in classes)
        delivered = {number: round(whole * shares[number]) for number in classes}
    elif sampling.balance == "weights":
        everything = sum(totals.values())
        for number in classes:
            if totals[number] <= 0 or everything <= 0:
                raise ConfigError(
                    f"sampling.balance: weights cannot scale class {number}, whose weights add up "
                    f"to {totals[number]:g}: use over or under"
                )
            factors[number] = shares[number] * everything / totals[number]
    return {
        number: ClassShare(
            events[number],
            delivered[number],
            factors[number],
            totals[number] * factors[number] * _repeats(sampling, events, delivered, number),
        )
        for number in classes
    }


def _repeats(
    sampling: Sampling, events: Mapping[int, int], delivered: Mapping[int, int], number: int
) -> float:
    """How often an event of a class comes in an epoch, on average, at its own weight."""
    return 1.0 if sampling.resample else delivered[number] / events[number]


def apportion(whole: int, parts: list[int]) -> list[int]:
    """``whole`` events in the proportions of the parts, exactly.

    >>> apportion(10, [1, 1, 1])
    [3, 3, 4]
    """
    total, done, given = sum(parts), 0, []
    for part in parts:
        before = whole * done // total
        done += part
        given.append(whole * done // total - before)
    return given


def _proportions(wanted: Mapping[int, float] | None, classes: list[int]) -> dict[int, float]:
    if wanted is None:
        return dict.fromkeys(classes, 1 / len(classes))
    missing = sorted(set(wanted) ^ set(classes))
    if missing:
        raise ConfigError(
            f"sampling.proportions and the classes of the training events differ in "
            f"{', '.join(map(str, missing))}: the classes are {', '.join(map(str, classes))}"
        )
    total = sum(wanted.values())
    return {number: share / total for number, share in wanted.items()}
