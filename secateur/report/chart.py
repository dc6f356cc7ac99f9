"""What a figure is: data and words. `plotly_drawing` draws it for the page, `png` as an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from secateur.leaderboard import Row
from secateur.report.facts import Kind

Range = tuple[float, float]
Symbol = Literal[
    "circle",
    "circle-open",
    "circle-open-dot",
    "diamond",
    "hexagon-open",
    "hexagram",
    "square",
    "star",
    "triangle-down",
    "x",
]
"""As plotly names them."""
Entry = tuple[str, str, Symbol | None]
"""Of a legend: name, colour, and symbol of points, or None of a line."""

COLORS: dict[Kind, str] = {
    "front": "#12a37f",
    "feasible": "#5b8def",
    "infeasible": "#8b95a1",
    "gated": "#8b95a1",
    "stopped": "#b98a5a",
    "noisy": "#e0a100",
    "suspect": "#b45fd0",
    "failed": "#e5484d",
    "pending": "#5b8def",
    "unpruned": "#f2711c",
    "off_the_shelf": "#f2711c",
    "champion": "#d6336c",
}
"""Legible on white and on black; kinds differ in shape, too."""
SYMBOLS: dict[Kind, tuple[Symbol, int]] = {
    "front": ("circle", 12),
    "feasible": ("circle", 8),
    "infeasible": ("circle-open", 8),
    "gated": ("hexagon-open", 8),
    "stopped": ("square", 7),
    "noisy": ("diamond", 9),
    "suspect": ("triangle-down", 10),
    "failed": ("x", 9),
    "pending": ("circle-open-dot", 9),
    "unpruned": ("star", 15),
    "off_the_shelf": ("square", 11),
    "champion": ("hexagram", 16),
}
"""Symbol, and its size in pixels."""

_PLOTTABLE = 1e100
"""Beyond it, the arithmetic of axes overflows."""
_MARGIN = 0.1
_FOCUS = 0.5
"""A closer view is worth it if it shows less than this part of an axis."""
_SURROUNDINGS = 1.0
"""How much of its own width a closer view shows on either side of what matters."""
_NUM_TOLD = 8
"""How many bars a description names."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis."""

    title: str
    range: Range
    focus: Range | None = None
    """A closer view: what matters, with its surroundings."""
    ticks: tuple[tuple[float, str], ...] = ()
    """Position and text, where the axis is not one of numbers."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that look alike; joined, if there is a line."""

    name: str
    """In the legend; empty: it does not stand there."""
    xs: Sequence[float | None]
    """None, as in `ys`, interrupts the line."""
    ys: Sequence[float | None]
    color: str
    symbol: Symbol | None = None
    size: int = 8
    line: Literal["linear", "hv", "vh"] | None = None
    """hv, vh: a staircase, whose horizontal or vertical part comes first after a point."""
    is_dashed: bool = False
    width: float = 2.0
    opacity: float = 1.0
    x_intervals: Sequence[Range | None] = ()
    y_intervals: Sequence[Range | None] = ()
    band: Sequence[Range] = ()
    """For each x, between which values the surroundings of the line are shaded."""
    hovers: Sequence[Row | str] = ()
    """What is told of each point: of a record, all that is known."""
    texts: Sequence[str] = ()
    """Beside each point."""

    @property
    def num_points(self) -> int:
        """Without the gaps."""
        return sum(y is not None for y in self.ys)


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
class Plot:
    """Points and lines between two axes."""

    title: str = ""
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    bounds: tuple[Bound, ...] = ()
    is_diagonal_shown: bool = False
    """Where y equals x."""
    num_rows: int | None = None
    """What stands below one another on the y axis, each in need of a line; None: nothing does."""

    @property
    def legend(self) -> tuple[Entry, ...]:
        """What has a name."""
        return tuple((s.name, s.color, s.symbol) for s in self.series if s.name)

    @property
    def has_focus(self) -> bool:
        """A few outliers would squeeze everything else: the closer view comes first."""
        return any(a.focus is not None and _width(a.focus) < _FOCUS * _width(a.range) for a in (self.x, self.y))

    def view(self, axis: Axis) -> Range:
        """Return what of an axis is shown at first."""
        return axis.focus if self.has_focus and axis.focus is not None else axis.range

    @property
    def num_outside(self) -> int:
        """How many points the closer view leaves out."""
        x_view, y_view = self.view(self.x), self.view(self.y)
        return sum(
            x is not None and y is not None and not (_holds(x_view, x) and _holds(y_view, y))
            for series in self.series
            if series.symbol is not None
            for x, y in zip(series.xs, series.ys, strict=True)
        )

    @property
    def description(self) -> str:
        """The plot in words, for those who do not see it."""
        shown = [s for s in self.series if s.name]
        counts = ", ".join(f"{s.num_points:,} {s.name}" if s.symbol else s.name for s in shown)
        across = f" against {self.x.title}" if self.x.title else ""
        return f"{_titled(self.title)}{self.y.title}{across}. Shown: {counts or f'{len(self.series):,} lines'}."


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Horizontal bars, one for each label and group."""

    title: str = ""
    x: Axis
    labels: tuple[str, ...]
    groups: tuple[tuple[str, str, tuple[float, ...]], ...]
    """Name, colour, and a value for each label."""
    texts: tuple[tuple[str, ...], ...]
    """The values as they are told, for each group."""

    @property
    def legend(self) -> tuple[Entry, ...]:
        """The groups."""
        return tuple((name, color, "square") for name, color, _ in self.groups)

    @property
    def num_rows(self) -> int:
        """Lines that the bars take, those of one label close together."""
        return math.ceil(len(self.labels) * (1 + len(self.groups)) / 2)

    @property
    def description(self) -> str:
        """The longest bars in words."""
        told = []
        for (name, _, values), texts in zip(self.groups, self.texts, strict=True):
            longest = sorted(zip(values, self.labels, texts, strict=True), reverse=True)[:_NUM_TOLD]
            listed = ", ".join(f"{label} {text}" for _, label, text in longest)
            told.append(f"{name}: {listed}" if len(self.groups) > 1 else listed)
        return f"{_titled(self.title)}{self.x.title}. {'; '.join(told)}."


@dataclass(frozen=True, kw_only=True)
class Heat:
    """A table of coloured cells."""

    title: str = ""
    x: Axis
    y: Axis
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    values: tuple[tuple[float | None, ...], ...]
    """A row for each y, from the first, which is at the bottom unless there are ticks; None: nothing is there."""
    limits: Range
    told: str
    """What a cell says of its value: ``{value:.0%} kept``."""

    @property
    def legend(self) -> tuple[Entry, ...]:
        """Nothing: the scale stands beside the table."""
        return ()

    @property
    def num_rows(self) -> int | None:
        """Rows that each need a line for their name; None: they have none."""
        return len(self.ys) if self.y.ticks else None

    @property
    def description(self) -> str:
        """The table in words."""
        known = [v for row in self.values for v in row if v is not None]
        span = f", from {self.told.format(value=min(known))} to {self.told.format(value=max(known))}" if known else ""
        return f"{_titled(self.title)}{self.y.title} against {self.x.title}, {len(self.ys)} x {len(self.xs)}{span}."


Panel = Plot | Bars | Heat


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of a report: a panel, or several that belong together."""

    name: str
    """An identifier."""
    title: str
    reading: str
    """How to read it, in a sentence."""
    panels: tuple[Panel, ...]
    note: str = ""
    """What is not in it, or must be known to judge it."""

    @property
    def named_panels(self) -> Iterator[tuple[str, Panel]]:
        """Each panel with an identifier of its own."""
        if len(self.panels) == 1:
            yield self.name, self.panels[0]
        else:
            yield from ((f"{self.name}-{number}", panel) for number, panel in enumerate(self.panels, start=1))

    @property
    def legend(self) -> tuple[Entry, ...]:
        """Of all panels together."""
        return tuple(dict.fromkeys(entry for panel in self.panels for entry in panel.legend))

    @property
    def description(self) -> str:
        """All panels in words."""
        return f"{self.title}: {' '.join(panel.description for panel in self.panels)}"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A figure that this study has no data for."""

    title: str
    reason: str
    """A sentence."""


def plottable(value: float | None) -> float | None:
    """Return a value if an axis can show it, else None."""
    return value if value is not None and abs(value) < _PLOTTABLE else None


def plottable_range(low: float, high: float) -> Range | None:
    """Return an interval if an axis can show it, else None."""
    return (low, high) if -_PLOTTABLE < low <= high < _PLOTTABLE else None


def axis_of(title: str, values: Sequence[float], near: Sequence[float] = ()) -> Axis:
    """Return an axis on which all values have their place.

    Args:
        title: With the unit.
        values: What it shows.
        near: Those that matter most, for the closer view.
    """
    everything = range_of(values)
    if not near:
        return Axis(title=title, range=everything)
    low, high = range_of(near)
    margin, around = min(near) - low, _SURROUNDINGS * (high - low)
    focus = max(min(values) - margin, low - around), min(max(values) + margin, high + around)
    return Axis(title=title, range=everything, focus=focus)


def named_axis(title: str, names: Sequence[str]) -> Axis:
    """Return an axis with a name at each of 0, 1, 2, and so on."""
    return Axis(title=title, range=(-0.5, max(len(names), 1) - 0.5), ticks=tuple(enumerate(names)))


def range_of(values: Sequence[float]) -> Range:
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


def _titled(title: str) -> str:
    return f"{title}: " if title else ""
