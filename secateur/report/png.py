"""Figures as PNGs, drawn with matplotlib: for places that show an image and no page."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas

from secateur.report.chart import Axis, Bars, Bound, Figure, Heat, LeftOut, Panel, Plot, Range, Series, Symbol
from secateur.report.facts import gather
from secateur.report.figures import first_figure
from secateur.report.headline import headline
from secateur.results import StudyResults

WIDTH_PX, HEIGHT_PX = 1200, 750
_DPI = 120
_LINE, _MAX_TEXT = 150, 420
"""Characters in a line above the plot, and in all of them."""
_ROW_PX, _PANEL_PX, _AROUND_PX = 22, 420, 150
_NUM_COLUMNS = 3
_MAX_TICKS = 70
_FONT, _SMALL = 9, 8

_BELOW_TITLE, _NUM_LEGEND_COLUMNS = 3.2, 6
"""How far below the upper edge the legend stands, in heights of its letters."""

_MARKERS: dict[Symbol, str] = {
    "circle": "o",
    "circle-open": "o",
    "circle-open-dot": "h",
    "diamond": "D",
    "hexagon-open": "h",
    "hexagram": "P",
    "square": "s",
    "star": "*",
    "triangle-down": "v",
    "x": "x",
}
_MARKER_SCALE = 0.75
"""Of matplotlib's points to plotly's pixels."""
_MUTED, _GRID = "#646b74", "#e3e3dd"
_SEQUENTIAL = LinearSegmentedColormap.from_list("secateur", ["#eef0ec", "#12a37f", "#0a3d31"])
"""As the page's in its light colours."""


def render_pareto_png(results: StudyResults) -> bytes:
    """Return the Pareto plot as a PNG of 1200 x 750 pixels; of one objective, its progress."""
    facts = gather(results)
    found = first_figure(facts)
    figure = Canvas(figsize=(WIDTH_PX / _DPI, HEIGHT_PX / _DPI), dpi=_DPI, layout="constrained")
    said = f"{headline(facts)} {found.reason if isinstance(found, LeftOut) else found.note}"
    text = textwrap.fill(textwrap.shorten(said, _MAX_TEXT, placeholder=" …"), _LINE)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=_SMALL, color=_MUTED)
    if isinstance(found, Figure):
        _draw_panels(figure, found, facts.study.name, num_columns=len(found.panels))
    return _png(figure)


def render_png(figure: Figure) -> bytes:
    """Return one figure as a PNG, 1200 pixels wide and as high as it needs."""
    num_columns = min(_NUM_COLUMNS, len(figure.panels))
    num_rows = math.ceil(len(figure.panels) / num_columns)
    height = _AROUND_PX + num_rows * max(map(_height_px, figure.panels))
    canvas = Canvas(figsize=(WIDTH_PX / _DPI, height / _DPI), dpi=_DPI, layout="constrained")
    text = textwrap.fill(f"{figure.reading} {figure.note}".strip(), _LINE)
    canvas.supxlabel(text, x=0.01, ha="left", fontsize=_SMALL, color=_MUTED)
    _draw_panels(canvas, figure, figure.title, num_columns)
    return _png(canvas)


def _png(canvas: Canvas) -> bytes:
    FigureCanvasAgg(canvas)  # it draws without a display, and belongs to the figure from here on
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="png")
    return buffer.getvalue()


def _height_px(panel: Panel) -> int:
    return _PANEL_PX if panel.num_rows is None else max(_PANEL_PX // 2, 60 + _ROW_PX * panel.num_rows)


def _draw_panels(canvas: Canvas, figure: Figure, title: str, num_columns: int) -> None:
    room = "\n" if len(figure.legend) > 1 else ""
    canvas.suptitle(f"{title}{room}", x=0.01, ha="left", fontsize=14, fontweight="bold")
    num_rows = math.ceil(len(figure.panels) / num_columns)
    grid = canvas.subplots(num_rows, num_columns, squeeze=False).flatten()
    for axes in grid[len(figure.panels) :]:
        axes.set_axis_off()
    entries = {}
    for axes, panel in zip(grid, figure.panels, strict=False):
        axes.set_title(panel.title, loc="left", fontsize=10)
        _draw(axes, panel)
        axes.tick_params(labelsize=_SMALL)
        axes.spines[["top", "right"]].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        entries.update(dict(zip(labels, handles, strict=True)))
    if len(entries) > 1:
        canvas.legend(
            entries.values(),
            entries.keys(),
            loc="outside upper left",
            borderaxespad=_BELOW_TITLE,
            ncols=_NUM_LEGEND_COLUMNS,
            frameon=False,
            fontsize=_FONT,
        )


def _draw(axes: Axes, panel: Panel) -> None:
    if isinstance(panel, Plot):
        _draw_plot(axes, panel)
    elif isinstance(panel, Bars):
        _draw_bars(axes, panel)
    else:
        _draw_heat(axes, panel)


def _draw_plot(axes: Axes, plot: Plot) -> None:
    axes.set_xlim(plot.view(plot.x))
    axes.set_ylim(plot.view(plot.y) if plot.num_rows is None else plot.view(plot.y)[::-1])
    _label(axes, plot.x, plot.y)
    for series in plot.series:
        _draw_series(axes, series)
    if plot.is_diagonal_shown:
        axes.axline((plot.x.range[0], plot.x.range[0]), slope=1, color=_MUTED, linewidth=1, linestyle=":")
    for i, bound in enumerate(plot.bounds):
        _draw_bound(axes, bound, is_far=i % 2 == 1)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def _label(axes: Axes, x: Axis, y: Axis) -> None:
    axes.set_xlabel(x.title, color=_MUTED, fontsize=_FONT)
    axes.set_ylabel(y.title, color=_MUTED, fontsize=_FONT)
    for axis, set_ticks in ((x, axes.set_xticks), (y, axes.set_yticks)):
        if shown := axis.ticks[:: -(-len(axis.ticks) // _MAX_TICKS) or 1]:
            is_crowded = axis is x and sum(len(text) for _, text in shown) > _LINE
            set_ticks([at for at, _ in shown], [text for _, text in shown], rotation=90 if is_crowded else 0)


def _draw_series(axes: Axes, series: Series) -> None:
    xs, ys = (np.array([math.nan if v is None else v for v in values]) for values in (series.xs, series.ys))
    if series.line:
        style = {"hv": "steps-post", "vh": "steps-pre", "linear": "default"}[series.line]
        axes.plot(
            xs,
            ys,
            drawstyle=style,
            color=series.color,
            linewidth=0.8 * series.width,
            linestyle="--" if series.is_dashed else "-",
            alpha=series.opacity,
            label=series.name if series.name and not series.symbol else None,
        )
    if series.band:
        lows, highs = zip(*series.band, strict=True)
        axes.fill_between(xs, lows, highs, color=series.color, alpha=0.2, linewidth=0)
    if series.symbol:
        axes.errorbar(
            xs,
            ys,
            xerr=_bars(xs, series.x_intervals),
            yerr=_bars(ys, series.y_intervals),
            fmt=_MARKERS[series.symbol],
            color=series.color,
            markersize=_MARKER_SCALE * series.size,
            markerfacecolor="none" if "open" in series.symbol else series.color,
            elinewidth=1,
            capsize=2,
            label=series.name or None,
        )
    for text, x, y in zip(series.texts, xs, ys, strict=False):
        axes.annotate(
            text,
            (x, y),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=_SMALL,
            color=_MUTED,
        )


def _bars(values: np.ndarray, intervals: Sequence[Range | None]) -> list[list[float]] | None:
    """Return the lengths below and above each value; None if nothing has an interval."""
    if not any(intervals):
        return None
    pairs = [(interval or (value, value), value) for interval, value in zip(intervals, values, strict=True)]
    return [[value - low for (low, _), value in pairs], [high - value for (_, high), value in pairs]]


def _draw_bars(axes: Axes, bars: Bars) -> None:
    height = 0.75 / len(bars.groups)
    for number, (name, color, values) in enumerate(bars.groups):
        at = [row - 0.375 + (number + 0.5) * height for row in range(len(values))]
        axes.barh(at, values, height=height, color=color, label=name)
    axes.set_xlim(bars.x.range)
    axes.set_ylim(len(bars.labels) - 0.5, -0.5)
    axes.set_yticks(range(len(bars.labels)), bars.labels)
    axes.set_xlabel(bars.x.title, color=_MUTED, fontsize=_FONT)


def _draw_heat(axes: Axes, heat: Heat) -> None:
    values = np.array([[math.nan if v is None else v for v in row] for row in heat.values])
    low, high = heat.limits
    extent = (*heat.x.range, *(heat.y.range[::-1] if heat.y.ticks else heat.y.range))
    image = axes.imshow(
        values,
        extent=extent,
        origin="upper" if heat.y.ticks else "lower",
        cmap=_SEQUENTIAL,
        vmin=low,
        vmax=high,
        aspect="auto",
        interpolation="nearest",
    )
    _label(axes, heat.x, heat.y)
    axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)


def _draw_bound(axes: Axes, bound: Bound, *, is_far: bool) -> None:
    color = bound.color
    low, high = axes.get_xlim() if bound.axis == "x" else axes.get_ylim()
    draw_line, shade = (axes.axvline, axes.axvspan) if bound.axis == "x" else (axes.axhline, axes.axhspan)
    draw_line(bound.value, color=color, linewidth=1, linestyle="--")
    if bound.operator:
        shade(bound.value, high if bound.operator == "<=" else low, color=color, alpha=0.05, linewidth=0)
    along = 0.99 if is_far else 0.01
    place = {"x": (bound.value, along), "y": (along, bound.value)}[bound.axis]
    axes.text(
        *place,
        f" {bound.text}",
        transform=axes.get_xaxis_transform() if bound.axis == "x" else axes.get_yaxis_transform(),
        rotation=90 if bound.axis == "x" else 0,
        ha="right" if is_far and bound.axis == "y" else "left",
        va="top" if is_far and bound.axis == "x" else "bottom",
        fontsize=_SMALL,
        color=_MUTED,
        clip_on=True,
    )
