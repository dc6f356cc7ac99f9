"""Records as points that look as what they are: on the front, noisy, stopped, a baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from secateur.config import Constraint
from secateur.leaderboard import Row
from secateur.report.chart import COLORS, SYMBOLS, Bound, Plot, Range, Series, axis_of, plottable, plottable_range
from secateur.report.facts import KINDS, Facts, Kind, kind_of

Read = Callable[[Row], float | None]
ReadInterval = Callable[[Row], Range | None]
Placed = tuple[Row, float, float]

_NEAR: set[Kind] = {"front", "feasible", "unpruned", "off_the_shelf", "champion"}
_MAX_LABELS = 15
"""More trials on the front than these are not named beside their markers."""


def metric(name: str) -> Read:
    """Return what reads a metric of a record."""
    return lambda row: row.metrics.get(name)


def interval_of(name: str) -> ReadInterval:
    """Return what reads a metric's interval; only a measured latency ratio has one."""

    def read(row: Row) -> Range | None:
        if name != "latency_ratio" or row.record.latency is None:
            return None
        ratio = row.record.latency.latency_ratio
        return plottable_range(ratio.low, ratio.high) if ratio.low <= ratio.estimate <= ratio.high else None

    return read


def placed(rows: Iterable[Row], x: Read, y: Read) -> list[Placed]:
    """Return the records of which both values are known."""
    values = ((row, plottable(x(row)), plottable(y(row))) for row in rows)
    return [(row, at, up) for row, at, up in values if at is not None and up is not None]


def by_kind(
    facts: Facts,
    points: Sequence[Placed],
    *,
    x_interval: ReadInterval,
    y_interval: ReadInterval,
    has_labels: bool,
) -> list[Series]:
    """Return a series for each kind of record."""
    found = []
    for kind in KINDS:
        if of_kind := [point for point in points if kind_of(point[0]) == kind]:
            rows = [row for row, _, _ in of_kind]
            is_named = has_labels and kind == "front" and len(rows) <= _MAX_LABELS
            symbol, size = SYMBOLS[kind]
            found.append(
                Series(
                    name=facts.words[kind],
                    xs=[x for _, x, _ in of_kind],
                    ys=[y for _, _, y in of_kind],
                    color=COLORS[kind],
                    symbol=symbol,
                    size=size,
                    x_intervals=[x_interval(row) for row in rows],
                    y_intervals=[y_interval(row) for row in rows],
                    hovers=rows,
                    texts=[row.record.label for row in rows] if is_named else (),
                )
            )
    return found


def scatter(
    facts: Facts,
    points: Sequence[Placed],
    titles: tuple[str, str],
    *,
    title: str = "",
    x_interval: ReadInterval = lambda _: None,
    y_interval: ReadInterval = lambda _: None,
    lines: Sequence[Series] = (),
    bounds: Sequence[Bound] = (),
    has_labels: bool = False,
    is_diagonal_shown: bool = False,
) -> Plot:
    """Return records as points, the axes closest around those that count.

    Args:
        facts: Of the study.
        points: From `placed`.
        titles: Of the two axes.
        title: Of the panel.
        x_interval: Around x, of each record.
        y_interval: Around y.
        lines: Below the points.
        bounds: Across the plot.
        has_labels: A front of a few trials bears their numbers.
        is_diagonal_shown: For two values of one metric.
    """
    near = [p for p in points if p[0].is_on_front or kind_of(p[0]) in _NEAR]
    on_x, on_y = ([b.value for b in bounds if b.axis == axis] for axis in ("x", "y"))
    all_x = [v for row, x, _ in points for v in (x, *(x_interval(row) or ()))] + on_x
    all_y = [v for row, _, y in points for v in (y, *(y_interval(row) or ()))] + on_y
    return Plot(
        title=title,
        x=axis_of(titles[0], all_x, [x for _, x, _ in near] + on_x),
        y=axis_of(titles[1], all_y, [y for _, _, y in near] + on_y),
        series=(*lines, *by_kind(facts, points, x_interval=x_interval, y_interval=y_interval, has_labels=has_labels)),
        bounds=tuple(bounds),
        is_diagonal_shown=is_diagonal_shown,
    )


def constraint_bounds(facts: Facts, name: str, axis: Literal["x", "y"]) -> list[Bound]:
    """Return the study's constraints on a metric."""
    found = []
    for text, value in facts.bounds.items():
        constraint = Constraint.parse(text)
        if constraint.metric == name and (shown := plottable(value)) is not None:
            found.append(Bound(axis=axis, value=shown, text=text, operator=constraint.operator))
    return found


def omitted(points: Sequence[Placed], facts: Facts) -> str:
    """Say which trials are not among the points; empty if none is missing."""
    shown = {row.record.label for row, _, _ in points}
    missing = Counter(KINDS[kind_of(row)] for row in facts.rows if row.record.label not in shown)
    if not missing:
        return ""
    counts = ", ".join(f"{number:,} {kind}" for kind, number in missing.items())
    return f"Not in the plot, for want of a figure: {counts}."
