"""How each parameter goes with each metric: Pearson's correlation for numbers, means by value for choices."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from secateur.config import METRICS, Study
from secateur.leaderboard import Row

MIN_POINTS = 3
_QUANTILE = 1.959964
"""Of the normal distribution, for 95 %."""


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Of one parameter with one metric."""

    r: float | None
    """Pearson's r, -1 to 1; None for fewer than `MIN_POINTS` points or where one side does not vary."""
    num_points: int

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval by Fisher's transformation; None where r is not known, or certain, or of 3 points."""
        if self.r is None or abs(self.r) == 1 or self.num_points <= MIN_POINTS:
            return None
        center, half_width = math.atanh(self.r), _QUANTILE / math.sqrt(self.num_points - 3)
        return math.tanh(center - half_width), math.tanh(center + half_width)


@dataclass(frozen=True, kw_only=True)
class ValueMeans:
    """Means of all metrics over the trials in which a parameter had one value."""

    value: float | str
    num_trials: int
    means: Mapping[str, float]


def pearson(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Return Pearson's correlation of two equally long sequences of finite numbers.

    Returns:
        None for fewer than `MIN_POINTS` points, or if one side does not vary.
    """
    if len(xs) < MIN_POINTS or min(xs) == max(xs) or min(ys) == max(ys):
        return None
    try:
        r = statistics.correlation(_scaled(xs), _scaled(ys))
    except statistics.StatisticsError:  # it varies by less than can be squared
        return None
    return max(-1.0, min(1.0, r))


def _scaled(values: Sequence[float]) -> list[float]:
    """Scale to [-1, 1], so that squares neither overflow nor vanish."""
    largest = max(abs(v) for v in values)
    return [v / largest for v in values]


def known_metrics(rows: Iterable[Row]) -> list[str]:
    """Return the metrics that at least one row has: the standard ones in their order, then the study's own."""
    found = {name for row in rows for name in row.metrics}
    return [name for name in METRICS if name in found] + sorted(found - METRICS.keys())


def correlations(rows: Sequence[Row]) -> dict[str, dict[str, Correlation]]:
    """Return parameter -> metric -> correlation, over all rows that have both.

    Parameters that took any value other than a number are left out: see `means_by_value`.
    """
    metrics = known_metrics(rows)
    return {
        parameter: {metric: _correlation(rows, parameter, metric) for metric in metrics}
        for parameter in _parameters(rows)
        if all(_is_number(row.record.parameters.get(parameter, 0)) for row in rows)
    }


def correlation_text(found: Correlation) -> str:
    """Write a correlation with its interval: ``-0.81 [-0.83, -0.79]``; it must be known."""
    assert found.r is not None
    interval = "" if found.interval is None else f" [{found.interval[0]:+.2f}, {found.interval[1]:+.2f}]"
    return f"{found.r:+.2f}{interval}"


def _correlation(rows: Sequence[Row], parameter: str, metric: str) -> Correlation:
    pairs = [
        (float(row.record.parameters[parameter]), row.metrics[metric])
        for row in rows
        if parameter in row.record.parameters and math.isfinite(row.metrics.get(metric, math.nan))
    ]
    return Correlation(r=pearson([x for x, _ in pairs], [y for _, y in pairs]), num_points=len(pairs))


def means_by_value(rows: Sequence[Row], study: Study) -> dict[str, list[ValueMeans]]:
    """Return parameter -> one entry for each value it took, for choices and for values that are no numbers."""
    choices = {name for name, parameter in study.search.parameters.items() if not hasattr(parameter, "min")}
    tables = {}
    for parameter in _parameters(rows):
        of_value: dict[float | str, list[Row]] = {}
        for row in rows:
            if parameter in row.record.parameters:
                of_value.setdefault(row.record.parameters[parameter], []).append(row)
        if parameter in choices or not all(_is_number(value) for value in of_value):
            tables[parameter] = [_value_means(value, group) for value, group in sorted(of_value.items(), key=_order)]
    return tables


def _order(item: tuple[float | str, list[Row]]) -> tuple[bool, float, str]:
    value = item[0]
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")


def _value_means(value: float | str, rows: Sequence[Row]) -> ValueMeans:
    means = {}
    for metric in known_metrics(rows):
        known = [found for row in rows if math.isfinite(found := row.metrics.get(metric, math.nan))]
        means[metric] = math.fsum(v / len(known) for v in known)
    return ValueMeans(value=value, num_trials=len(rows), means=means)


def _parameters(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row.record.parameters))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
