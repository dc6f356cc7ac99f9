"""What is plotted, without saying with what: `figures` draws it with plotly, `png` with matplotlib."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from secateur.config import Constraint
from secateur.leaderboard import Row
from secateur.report.facts import KINDS, Facts, Kind, kind_of, name_of
from secateur.report.formats import title_of

Range = tuple[float, float]

COLORS: dict[Kind, str] = {
    "front": "#12a37f",
    "feasible": "#5b8def",
    "infeasible": "#8b95a1",
    "noisy": "#e0a100",
    "suspect": "#b45fd0",
    "failed": "#e5484d",
    "pending": "#5b8def",
    "unpruned": "#f2711c",
    "off_the_shelf": "#f2711c",
}
"""Legible on white and on black; kinds differ in shape, too."""
MAX_LABELS = 15
"""More trials on the front than these are not named beside their markers."""

_PLOTTABLE = 1e100
"""Beyond it, the arithmetic of axes overflows."""
_MARGIN = 0.1
_FOCUS = 0.5
"""A closer view is worth it if it shows less than this part of an axis."""
_SURROUNDINGS = 1.0
"""How much of its own width a closer view shows on either side of what matters."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One record in a plot."""

    x: float
    y: float
    x_interval: Range | None
    y_interval: Range | None
    kind: Kind
    row: Row


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A line across the plot: a constraint (what lies beyond it is not wanted) or a baseline."""

    axis: Literal["x", "y"]
    value: float
    text: str
    operator: Literal["<=", ">="] | None
    """None for a baseline."""

    @property
    def color(self) -> str:
        """Red for what must not be crossed, the baselines' own colour for them."""
        return COLORS["failed" if self.operator else "unpruned"]


@dataclass(frozen=True, kw_only=True)
class Line:
    """A staircase: the front, or the running best."""

    name: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    shape: Literal["hv", "vh"]
    """What comes first after a point: the horizontal or the vertical part."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis."""

    title: str
    range: Range
    focus: Range
    """A closer view: feasible trials, baselines and bounds, with their surroundings."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One plot."""

    name: str
    """An identifier."""
    title: str
    x: Axis
    y: Axis
    points: tuple[Point, ...]
    line: Line | None
    bounds: tuple[Bound, ...]
    omitted: str
    """What is not in the plot, and why; empty if nothing is missing."""

    @property
    def description(self) -> str:
        """The plot in words, for those who do not see it."""
        counts = Counter(KINDS[point.kind] for point in self.points)
        shown = ", ".join(f"{number:,} {kind}" for kind, number in counts.items()) or "nothing yet"
        return f"{self.title}: {self.y.title} against {self.x.title}. Shown: {shown}."

    @property
    def has_focus(self) -> bool:
        """A few outliers would squeeze everything else: the closer view comes first."""
        return any(_width(axis.focus) < _FOCUS * _width(axis.range) for axis in (self.x, self.y))

    @property
    def num_outside(self) -> int:
        """How many points the closer view leaves out."""
        return sum(not (_holds(self.x.focus, p.x) and _holds(self.y.focus, p.y)) for p in self.points)


def pictures(facts: Facts) -> list[Picture]:
    """Return the plots of a study, the most telling first."""
    return [trade_off(facts)] if len(facts.objectives) > 1 else [progress(facts), trade_off(facts)]


def trade_off(facts: Facts) -> Picture:
    """Return one metric against another: the objectives with their front, or the only objective against top1."""
    x, y = _axes(facts)
    points = [p for row in (*facts.rows, *facts.baselines) if (p := _point(row, x, y)) is not None]
    return _picture(
        name="trade-off",
        title="Pareto front" if len(facts.objectives) > 1 else f"Trade-off of {title_of(x)} and {title_of(y)}",
        titles=(title_of(x), title_of(y)),
        points=points,
        line=_front(points, facts, x) if len(facts.objectives) == 2 else None,
        bounds=[*_constraint_bounds(facts, x, "x"), *_constraint_bounds(facts, y, "y")],
        facts=facts,
    )


def progress(facts: Facts) -> Picture:
    """Return the first objective against the trial's number, with the running best of feasible trials."""
    metric, direction = next(iter(facts.objectives.items()))
    points: list[Point] = []
    best: list[tuple[float, float]] = []
    for number, row in enumerate(facts.in_order):
        y = _plottable(row, metric)
        if y is None:
            continue
        y_interval = _interval(row, metric)
        points.append(Point(x=number, y=y, x_interval=None, y_interval=y_interval, kind=kind_of(row), row=row))
        is_better = not best or (y < best[-1][1] if direction == "minimize" else y > best[-1][1])
        if row.is_feasible and is_better:
            best.append((float(number), y))
    if best:
        best.append((float(len(facts.in_order) - 1), best[-1][1]))
    known = [(row, value) for row in facts.baselines if (value := _plottable(row, metric)) is not None]
    baselines = [Bound(axis="y", value=value, text=name_of(row), operator=None) for row, value in known]
    return _picture(
        name="progress",
        title="Progress",
        titles=("trial", title_of(metric)),
        points=points,
        line=_line("best so far", best, "hv"),
        bounds=[*_constraint_bounds(facts, metric, "y"), *baselines],
        facts=facts,
    )


def _axes(facts: Facts) -> tuple[str, str]:
    """Choose what is plotted: what is minimised to the right, what is maximised upwards."""
    objectives = list(facts.objectives)
    if len(objectives) == 1:
        return ("latency_ratio" if objectives == ["top1"] else objectives[0]), "top1"
    x = next((name for name in objectives if facts.objectives[name] == "minimize"), objectives[0])
    return x, next(name for name in objectives if name != x)


def _plottable(row: Row, metric: str) -> float | None:
    value = row.metrics.get(metric)
    return value if value is not None and abs(value) < _PLOTTABLE else None


def _point(row: Row, x: str, y: str) -> Point | None:
    x_value, y_value = _plottable(row, x), _plottable(row, y)
    if x_value is None or y_value is None:
        return None
    return Point(
        x=x_value,
        y=y_value,
        x_interval=_interval(row, x),
        y_interval=_interval(row, y),
        kind=kind_of(row),
        row=row,
    )


def _interval(row: Row, metric: str) -> Range | None:
    """Return the interval of a metric; only a measured latency ratio has one."""
    if metric != "latency_ratio" or row.record.latency is None:
        return None
    ratio = row.record.latency.latency_ratio
    is_usable = -_PLOTTABLE < ratio.low <= ratio.estimate <= ratio.high < _PLOTTABLE
    return (ratio.low, ratio.high) if is_usable else None


def _front(points: Iterable[Point], facts: Facts, x: str) -> Line | None:
    corners = sorted((point.x, point.y) for point in points if point.row.is_on_front)
    return _line("front", corners, "hv" if facts.objectives[x] == "minimize" else "vh")


def _line(name: str, corners: Sequence[tuple[float, float]], shape: Literal["hv", "vh"]) -> Line | None:
    if not corners:
        return None
    return Line(name=name, xs=tuple(x for x, _ in corners), ys=tuple(y for _, y in corners), shape=shape)


def _constraint_bounds(facts: Facts, metric: str, axis: Literal["x", "y"]) -> list[Bound]:
    bounds = []
    for text, value in facts.bounds.items():
        constraint = Constraint.parse(text)
        if constraint.metric == metric and value is not None and abs(value) < _PLOTTABLE:
            bounds.append(Bound(axis=axis, value=value, text=text, operator=constraint.operator))
    return bounds


def _picture(
    *,
    name: str,
    title: str,
    titles: tuple[str, str],
    points: Sequence[Point],
    line: Line | None,
    bounds: Sequence[Bound],
    facts: Facts,
) -> Picture:
    near = [p for p in points if p.row.is_on_front or p.kind in {"feasible", "unpruned", "off_the_shelf"}]
    on_x, on_y = ([b.value for b in bounds if b.axis == axis] for axis in ("x", "y"))
    all_x = [v for p in points for v in (p.x, *(p.x_interval or ()))] + on_x
    all_y = [v for p in points for v in (p.y, *(p.y_interval or ()))] + on_y
    return Picture(
        name=name,
        title=title,
        x=_axis(titles[0], all_x, [p.x for p in near] + on_x),
        y=_axis(titles[1], all_y, [p.y for p in near] + on_y),
        points=tuple(points),
        line=line,
        bounds=tuple(bounds),
        omitted=_omitted(points, facts),
    )


def _axis(title: str, values: Sequence[float], near: Sequence[float]) -> Axis:
    everything = _range(values)
    if not near:
        return Axis(title=title, range=everything, focus=everything)
    low, high = _range(near)
    margin, around = min(near) - low, _SURROUNDINGS * (high - low)
    focus = max(min(values) - margin, low - around), min(max(values) + margin, high + around)
    return Axis(title=title, range=everything, focus=focus)


def _range(values: Sequence[float]) -> Range:
    """Return an axis' range: all values with a margin."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = max(_MARGIN * (high - low), 1e-6 * max(abs(low), abs(high))) or 1.0
    return low - margin, high + margin


def _holds(limits: Range, value: float) -> bool:
    return limits[0] <= value <= limits[1]


def _width(limits: Range) -> float:
    return limits[1] - limits[0]


def _omitted(points: Sequence[Point], facts: Facts) -> str:
    shown = {point.row.record.label for point in points}
    missing = Counter(KINDS[kind_of(row)] for row in facts.rows if row.record.label not in shown)
    if not missing:
        return ""
    counts = ", ".join(f"{number:,} {kind}" for kind, number in missing.items())
    return f"Not in the plot, for want of a figure: {counts}."
