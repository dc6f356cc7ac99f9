"""Has a device, or a network on it, changed since the last nights?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from secateur.championship import Night
from secateur.results import UNPRUNED, DeviceFingerprint

NUM_NIGHTS = 10
"""As many of the last nights tell what is usual."""
MIN_NIGHTS = 3
"""Of fewer, no spread can be told."""
FALSE_ALARMS = 0.01
"""Of nights on which nothing has changed; all figures of a night together."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure of a night beside those of the nights before."""

    network: str
    metric: Literal["total_latency_ms", "latency_ratio"]
    value: float
    predicted: tuple[float, float] | None
    """Where it was to lie; None where there are too few nights."""
    num_nights: int
    """That it is compared with."""

    @property
    def has_changed(self) -> bool:
        """It lies outside of what the nights before predict."""
        return self.predicted is not None and not self.predicted[0] <= self.value <= self.predicted[1]

    @property
    def told_by(self) -> Literal["device", "model"]:
        """The unpruned network's own time tells of the device, a ratio to it of the model."""
        return "device" if self.network == UNPRUNED else "model"


@dataclass(frozen=True, kw_only=True)
class Drift:
    """What became of one place's device and networks in one night."""

    place: str
    measured_at: str
    comparisons: tuple[Comparison, ...]
    replaced: tuple[str, ...]
    """Parts of the device's fingerprint, and networks, that are others than the night before, in words."""
    is_another_device: bool
    """Its fingerprint changed: it is compared with no earlier night."""

    @property
    def has_changed(self) -> bool:
        """Somebody should look at it. A network that was replaced by a person is no reason."""
        return self.is_another_device or any(comparison.has_changed for comparison in self.comparisons)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What to tell, one thing each."""
        return (*self.replaced, *(_sentence(comparison) for comparison in self.comparisons if comparison.has_changed))


def find_drift(nights: Sequence[Night]) -> Drift:
    """Compare the last night of one place with those before it.

    Only nights with the same device (all of its fingerprint) and the same network count, the last ten of them. A figure
    has changed if it lies outside the prediction interval of one more night. What varies from night to night (heat,
    load, where a compilation lies in memory) widens that interval, which no single night's own error could. The figures
    of a night share the rate of false alarms, `FALSE_ALARMS` (Bonferroni's inequality).

    Args:
        nights: Of one place, in the order of time; at least one.
    """
    last = nights[-1]
    device = _device(last)
    same_device = [night for night in nights[:-1] if _device(night) == device]
    figures = list(_figures(last))
    level = FALSE_ALARMS / len(figures)
    comparisons = []
    for network, metric, value in figures:
        needed = {UNPRUNED, network}
        same = [night for night in same_device if all(_is_same(night, last, label) for label in needed)][-NUM_NIGHTS:]
        earlier = [
            other for night in same for name, kind, other in _figures(night) if (name, kind) == (network, metric)
        ]
        predicted = prediction_interval(earlier, level) if len(earlier) >= MIN_NIGHTS else None
        comparisons.append(
            Comparison(network=network, metric=metric, value=value, predicted=predicted, num_nights=len(earlier))
        )
    before = nights[-2] if len(nights) > 1 else None
    return Drift(
        place=last.place,
        measured_at=last.measured_at,
        comparisons=tuple(comparisons),
        replaced=() if before is None else tuple(_replaced(before, last)),
        is_another_device=before is not None and _device(before) != device,
    )


def prediction_interval(values: Sequence[float], level: float) -> tuple[float, float]:
    """Return where one more value lies with a probability of 1 - `level`, if the logarithms are normal.

    That is mean ± t s sqrt(1 + 1/n) of their n logarithms (Hahn and Meeker 1991, Statistical intervals, sec. 4.7).

    Args:
        values: Positive, at least two.
        level: In (0, 1).
    """
    count = len(values)
    logarithms = np.log(values)
    quantile = float(stats.t.ppf(1 - level / 2, count - 1))
    half_width = quantile * float(logarithms.std(ddof=1)) * math.sqrt(1 + 1 / count)
    centre = float(logarithms.mean())
    return math.exp(centre - half_width), math.exp(centre + half_width)


def _figures(night: Night) -> Iterator[tuple[str, Literal["total_latency_ms", "latency_ratio"], float]]:
    for number, (network, report) in enumerate(night.reports.items()):
        if number == 0:  # all were measured together, with one reference
            yield UNPRUNED, "total_latency_ms", report.reference_total_latency_ms.p50
        yield network, "latency_ratio", report.latency_ratio.estimate


def _device(night: Night) -> DeviceFingerprint:
    return next(iter(night.reports.values())).device


def _is_same(night: Night, last: Night, network: str) -> bool:
    return night.networks.get(network) == last.networks[network]


def _replaced(before: Night, last: Night) -> Iterator[str]:
    was, now = _device(before).model_dump(), _device(last).model_dump()
    yield from (f"device: {name} was {was[name]!r}, is {now[name]!r}." for name in now if was[name] != now[name])
    for network, key in last.networks.items():
        if before.networks.get(network, key) != key:
            yield f"model: {network} is another network than the night before."


def _sentence(comparison: Comparison) -> str:
    assert comparison.predicted is not None
    low, high = comparison.predicted
    return (
        f"{comparison.told_by}: {comparison.network}'s {comparison.metric} is {comparison.value:.4g}, outside of"
        f" [{low:.4g}, {high:.4g}], which {comparison.num_nights} nights before predict."
    )
