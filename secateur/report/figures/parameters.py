"""What each parameter does: all trials across all parameters, correlations, mean latency in bins."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence

from secateur.leaderboard import Row
from secateur.report.chart import COLORS, Axis, Figure, LeftOut, Plot, Range, Series, axis_of, named_axis, plottable
from secateur.report.correlation import Correlation, correlation_text, correlations
from secateur.report.dissertation import published_correlations
from secateur.report.facts import KINDS, Facts, kind_of
from secateur.report.formats import metric_text, parameter_text, title_of

_FAINT, _STRONG = 0.5, 1.0
_METRICS = ("latency_ratio", "top1")
_MIN_SAMPLED = 20
"""Of fewer trials, means in bins say nothing: then all trials count, chosen by earlier results or not."""
_MAX_BINS = 50
"""As many as the dissertation's Figure 4.1 has."""
_QUANTILE = 1.959964


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Scale:
    """One of the parallel axes: a parameter, or a metric."""

    title: str
    values: dict[str, float]
    """Position of each trial between 0 and 1, by label."""


def parallel(facts: Facts) -> Figure | LeftOut:
    """Each trial as a line across all parameters and objectives."""
    rows = [row for row in facts.rows if row.metrics and row.record.is_usable]
    names = list(dict.fromkeys(name for row in rows for name in row.record.parameters))
    scales = [_parameter_scale(rows, name, facts) for name in names]
    scales += [_metric_scale(rows, name) for name in dict.fromkeys([*facts.objectives, *_METRICS])]
    scales = [scale for scale in scales if len(scale.values) > 1]
    if len(scales) < 2:
        return LeftOut(title="Parallel coordinates", reason="Fewer than two trials have a result yet.")
    return Figure(
        name="parallel",
        title="Parallel coordinates",
        reading="A line for each trial; every axis runs from its least to its greatest value, which stand below it.",
        panels=(
            Plot(
                x=Axis(
                    title="",
                    range=(-0.3, len(scales) - 0.7),
                    ticks=tuple((float(i), scale.title) for i, scale in enumerate(scales)),
                ),
                y=Axis(title="", range=(-0.05, 1.05), ticks=((0.0, "least"), (1.0, "greatest"))),
                series=tuple(
                    _lines([row for row in rows if kind_of(row) == kind], scales, facts)
                    for kind in reversed(KINDS)  # the front above all others
                    if any(kind_of(row) == kind for row in rows)
                ),
            ),
        ),
    )


def _lines(rows: Sequence[Row], scales: Sequence[_Scale], facts: Facts) -> Series:
    points: list[tuple[Row, float, float | None]] = []
    for row in rows:
        points += [(row, float(i), scale.values.get(row.record.label)) for i, scale in enumerate(scales)]
        points.append((row, float(len(scales) - 1), None))  # the next line is another one
    kind = kind_of(rows[0])
    return Series(
        name=facts.words[kind],
        xs=[x for _, x, _ in points],
        ys=[y for _, _, y in points],
        color=COLORS[kind],
        line="linear",
        width=2.2 if kind == "front" else 1.2,
        opacity=_STRONG if kind == "front" else _FAINT,
        hovers=[row for row, _, _ in points],
    )


def _parameter_scale(rows: Sequence[Row], name: str, facts: Facts) -> _Scale:
    found = {row.record.label: row.record.parameters[name] for row in rows if name in row.record.parameters}
    title = facts.names.get(name, name)
    numbers = {label: at for label, v in found.items() if not isinstance(v, str) and (at := plottable(v)) is not None}
    if len(numbers) == len(found):
        return _scale(title, numbers, parameter_text)
    words = sorted({str(value) for value in found.values()})
    places = {label: float(words.index(str(value))) for label, value in found.items()}
    return _scale(title, places, lambda at: words[int(at)])


def _metric_scale(rows: Sequence[Row], name: str) -> _Scale:
    found = {row.record.label: v for row in rows if (v := plottable(row.metrics.get(name))) is not None}
    return _scale(title_of(name), found, lambda value: metric_text(name, value))


def _scale(title: str, values: dict[str, float], text: Callable[[float], str]) -> _Scale:
    if not values:
        return _Scale(title=title, values={})
    low, high = min(values.values()), max(values.values())
    width = high - low
    positions = {label: (value - low) / width if width else 0.5 for label, value in values.items()}
    return _Scale(title=f"{title}\n{text(low)} to {text(high)}", values=positions)


def correlation(facts: Facts) -> Figure | LeftOut:
    """Correlation of each parameter with latency and top1, with intervals, beside what the dissertation found."""
    title = "Correlation of parameters with latency and top1"
    found = correlations(facts.sampled)
    published = published_correlations(facts.study.name)
    panels = [
        _correlation_panel(name, {p: of_metric[name] for p, of_metric in found.items()}, published.get(name, {}), facts)
        for name in _METRICS
        if any(name in of_metric and of_metric[name].r is not None for of_metric in found.values())
    ]
    if not panels:
        reason = "It takes 3 trials that no earlier result had a say in: quasi-random, random, or of a grid."
        return LeftOut(title=title, reason=reason)
    return Figure(
        name="correlation",
        title=title,
        reading="-1: the more, the less; 0: nothing to do with each other. Bars are 95 % intervals.",
        panels=tuple(panels),
        note=f"Over the {len(facts.sampled):,} trials that no earlier result had a say in: others would bias it.",
    )


def _correlation_panel(name: str, found: dict[str, Correlation], published: dict[str, float], facts: Facts) -> Plot:
    known = {parameter: c for parameter, c in found.items() if c.r is not None}
    rows = {parameter: float(i) for i, parameter in enumerate(known)}
    series = [
        Series(
            name="this study",
            xs=[c.r for c in known.values()],
            ys=list(rows.values()),
            color=COLORS["front"],
            symbol="circle",
            size=9,
            x_intervals=[c.interval for c in known.values()],
            hovers=[f"{parameter}: {correlation_text(c)}, {c.num_points:,} trials" for parameter, c in known.items()],
        )
    ]
    if both := [parameter for parameter in published if parameter in rows]:
        series.append(
            Series(
                name="the dissertation, 2021",
                xs=[published[parameter] for parameter in both],
                ys=[rows[parameter] for parameter in both],
                color=COLORS["unpruned"],
                symbol="diamond",
                size=9,
                hovers=[f"{parameter}: {published[parameter]:+.3f} in the dissertation" for parameter in both],
            )
        )
    return Plot(
        title=title_of(name),
        x=Axis(title=f"correlation with {title_of(name)}", range=(-1.05, 1.05)),
        y=named_axis("", [facts.names.get(parameter, parameter) for parameter in known]),
        series=tuple(series),
        num_rows=len(rows),
    )


def bins(facts: Facts) -> Figure | LeftOut:
    """Mean latency in bins of each parameter (the dissertation's Figure 4.1)."""
    title = "Mean latency in bins of each parameter"
    is_unbiased = len(facts.sampled) >= _MIN_SAMPLED
    rows = facts.sampled if is_unbiased else facts.usable
    panels = []
    for name in dict.fromkeys(name for row in rows for name in row.record.parameters):
        pairs = [(_number(row, name), plottable(row.metrics.get("latency_ratio"))) for row in rows]
        known = [(x, y) for x, y in pairs if x is not None and y is not None]
        if len({x for x, _ in known}) > 1:
            panels.append(_bins_panel(facts.names.get(name, name), known))
    if not panels:
        return LeftOut(title=title, reason="It takes trials with a latency, and parameters that are numbers.")
    lows, highs = zip(*(panel.y.range for panel in panels), strict=True)
    shared = dataclasses.replace(panels[0].y, range=(min(lows), max(highs)))
    return Figure(
        name="bins",
        title=title,
        reading="The mean over the trials in each bin of one parameter, whatever the others are; bars are its 95 %"
        " interval, where a bin has three trials or more.",
        panels=tuple(dataclasses.replace(panel, y=shared) for panel in panels),
        note=""
        if is_unbiased
        else "The search chose most of these trials by earlier results: bins differ in the other parameters, too.",
    )


def _number(row: Row, name: str) -> float | None:
    value = row.record.parameters.get(name)
    return None if value is None or isinstance(value, str) else plottable(float(value))


def _bins_panel(title: str, pairs: Sequence[tuple[float, float]]) -> Plot:
    low, high = min(x for x, _ in pairs), max(x for x, _ in pairs)
    num_bins = max(3, min(_MAX_BINS, round(math.sqrt(len(pairs)))))
    of_bin: dict[int, list[float]] = {}
    for x, y in pairs:
        of_bin.setdefault(min(int(num_bins * ((x - low) / (high - low))), num_bins - 1), []).append(y)
    width = (high - low) / num_bins
    centers = [low + (i + 0.5) * width for i in sorted(of_bin)]
    groups = [of_bin[i] for i in sorted(of_bin)]
    means = [statistics.fmean(group) for group in groups]
    intervals = [_mean_interval(group) for group in groups]
    values = [v for mean, interval in zip(means, intervals, strict=True) for v in (mean, *(interval or ()))]
    return Plot(
        title=title,
        x=axis_of(title, [low, high]),
        y=axis_of(f"mean {title_of('latency_ratio')}", values),
        series=(
            Series(
                name="",
                xs=centers,
                ys=means,
                color=COLORS["front"],
                symbol="circle",
                size=7,
                line="linear",
                width=1.5,
                y_intervals=intervals,
                hovers=[
                    f"{title} {center - width / 2:.3g} to {center + width / 2:.3g}: {mean:.3f}, {len(group):,} trials"
                    for center, mean, group in zip(centers, means, groups, strict=True)
                ],
            ),
        ),
    )


def _mean_interval(values: Sequence[float]) -> Range | None:
    """Return the 95 % interval of a mean; None of fewer than three values."""
    if len(values) < 3:
        return None
    half_width = _QUANTILE * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half_width, mean + half_width
