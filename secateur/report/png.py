"""A study's first plot as a PNG, drawn with matplotlib: for places that show an image and no page."""

from __future__ import annotations

import io
import textwrap

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from secateur.report.facts import Facts, Kind, gather
from secateur.report.headline import headline
from secateur.report.picture import COLORS, MAX_LABELS, Bound, Picture, Point, pictures
from secateur.results import StudyResults

WIDTH_PX, HEIGHT_PX = 1200, 750
_DPI = 120
_LINE, _MAX_TEXT = 150, 420
"""Characters in a line above the plot, and in all of them."""

_MARKERS: dict[Kind, tuple[str, float]] = {
    "front": ("o", 9),
    "feasible": ("o", 6),
    "infeasible": ("o", 6),
    "noisy": ("D", 7),
    "suspect": ("v", 8),
    "failed": ("x", 7),
    "pending": ("h", 7),
    "unpruned": ("*", 15),
    "off_the_shelf": ("s", 9),
}
"""Symbol and size, as matplotlib names them: the same as in the page's plots."""
_HOLLOW: set[Kind] = {"infeasible", "pending"}
_MUTED, _GRID = "#646b74", "#e3e3dd"


def render_pareto_png(results: StudyResults) -> bytes:
    """Return the Pareto plot as a PNG of 1200 x 750 pixels; of one objective, its progress."""
    facts = gather(results)
    figure = Figure(figsize=(WIDTH_PX / _DPI, HEIGHT_PX / _DPI), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)  # the canvas draws without a display, and belongs to the figure from here on
    picture = pictures(facts)[0]
    _draw(figure.subplots(), picture, facts)
    _write_around(figure, picture, facts)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes: Axes, picture: Picture, facts: Facts) -> None:
    axes.set_xlim(picture.x.focus if picture.has_focus else picture.x.range)
    axes.set_ylim(picture.y.focus if picture.has_focus else picture.y.range)
    if line := picture.line:
        style = "steps-post" if line.shape == "hv" else "steps-pre"
        axes.plot(line.xs, line.ys, drawstyle=style, color=COLORS["front"], linewidth=1.6, label=line.name)
    for kind, words in facts.words.items():
        if points := [p for p in picture.points if p.kind == kind]:
            _draw_points(axes, kind, points, words)
    for bound in picture.bounds:
        _draw_bound(axes, bound)
    axes.set_xlabel(picture.x.title, color=_MUTED)
    axes.set_ylabel(picture.y.title, color=_MUTED)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _write_around(figure: Figure, picture: Picture, facts: Facts) -> None:
    figure.suptitle(facts.study.name, x=0.066, ha="left", fontsize=14, fontweight="bold")
    outside = f" {picture.num_outside:,} points lie outside of this view." if picture.has_focus else ""
    text = f"{headline(facts)} {picture.omitted}{outside}"
    lines = textwrap.shorten(text, _MAX_TEXT, placeholder=" …")
    figure.axes[0].set_title(textwrap.fill(lines, _LINE), loc="left", fontsize=8, color=_MUTED)
    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)


def _draw_points(axes: Axes, kind: Kind, points: list[Point], words: str) -> None:
    (marker, size), color = _MARKERS[kind], COLORS[kind]
    axes.errorbar(
        [p.x for p in points],
        [p.y for p in points],
        xerr=_bars([p.x for p in points], [p.x_interval for p in points]),
        yerr=_bars([p.y for p in points], [p.y_interval for p in points]),
        fmt=marker,
        color=color,
        markersize=size,
        markerfacecolor="none" if kind in _HOLLOW else color,
        elinewidth=1,
        capsize=2,
        label=words,
    )
    if kind == "front" and len(points) <= MAX_LABELS:
        for point in points:
            axes.annotate(
                point.row.record.label,
                (point.x, point.y),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=_MUTED,
            )


def _bars(values: list[float], intervals: list[tuple[float, float] | None]) -> list[list[float]] | None:
    """Return the lengths below and above each value; None if nothing has an interval."""
    if not any(intervals):
        return None
    pairs = [(interval or (value, value), value) for interval, value in zip(intervals, values, strict=True)]
    return [[value - low for (low, _), value in pairs], [high - value for (_, high), value in pairs]]


def _draw_bound(axes: Axes, bound: Bound) -> None:
    color = bound.color
    low, high = axes.get_xlim() if bound.axis == "x" else axes.get_ylim()
    draw_line, shade = (axes.axvline, axes.axvspan) if bound.axis == "x" else (axes.axhline, axes.axhspan)
    draw_line(bound.value, color=color, linewidth=1, linestyle="--")
    if bound.operator:
        shade(bound.value, high if bound.operator == "<=" else low, color=color, alpha=0.05, linewidth=0)
    place = {"x": (bound.value, 0.01), "y": (0.005, bound.value)}[bound.axis]
    axes.text(
        *place,
        f" {bound.text}",
        transform=axes.get_xaxis_transform() if bound.axis == "x" else axes.get_yaxis_transform(),
        rotation=90 if bound.axis == "x" else 0,
        va="bottom",
        fontsize=8,
        color=_MUTED,
    )
