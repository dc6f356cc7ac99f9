"""Figures as plotly's JSON, so that a page is written without building plotly's objects.

Fonts, grid and colour scales take the page's colours when it is shown. Of a record, the JSON holds the label alone: the
page has what is told of it once, for all figures.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from plotly.offline import get_plotlyjs

from secateur.leaderboard import Row
from secateur.report.chart import Axis, Bars, Bound, Heat, Panel, Plot, Range, Series
from secateur.report.correlation import known_metrics
from secateur.report.facts import Facts, kind_of, name_of
from secateur.report.formats import interval_text, metric_text, title_of

_MAX_PARAMETERS = 12
_BEYOND = 100
"""How many widths of the axis an unwanted side is shaded, so that zooming out shows no edge."""
_DIGITS = 6
"""More than a screen shows, fewer than a float has: a third of the bytes."""
_MAX_TICKS = 70


def plotly_script() -> str:
    """Return plotly's own script, 4.8 MB."""
    return str(get_plotlyjs())


def draw(panel: Panel, *, has_legend: bool = True) -> dict[str, Any]:
    """Return a plotly figure; panels of one figure leave their legend to the page."""
    if isinstance(panel, Plot):
        figure = _draw_plot(panel)
    else:
        figure = _draw_bars(panel) if isinstance(panel, Bars) else _draw_heat(panel)
    figure["layout"]["showlegend"] = has_legend and len(panel.legend) > 1
    return figure


def record_hovers(facts: Facts) -> dict[str, str]:
    """Return what is told of each record, by label, as HTML that plotly understands."""
    return {row.record.label: _record_hover(row, facts) for row in (*facts.baselines, *facts.rows)}


def _figure(traces: Sequence[dict[str, Any]], **layout: Any) -> dict[str, Any]:
    common = {
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 16, "r": 16, "t": 16, "b": 16},
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "shapes": [],
        "annotations": [],
    }
    return {"data": list(traces), "layout": {**common, **layout}}


def _axis(axis: Axis, view: Range) -> dict[str, Any]:
    ticks = {}
    if axis.ticks:
        shown = axis.ticks[:: -(-len(axis.ticks) // _MAX_TICKS)]
        ticks = {"tickvals": [at for at, _ in shown], "ticktext": [_lines(text) for _, text in shown]}
    return {
        "title": _title(axis),
        "range": list(view),
        "zeroline": False,
        "automargin": True,
        **ticks,
    }


def _title(axis: Axis) -> dict[str, Any]:
    return {"text": html.escape(axis.title), "font": {"size": 13}}


def _draw_plot(plot: Plot) -> dict[str, Any]:
    x, y = _axis(plot.x, plot.view(plot.x)), _axis(plot.y, plot.view(plot.y))
    shapes = [shape for bound in plot.bounds for shape in _shapes(bound, plot)]
    if plot.is_diagonal_shown:
        low, high = min(plot.x.range[0], plot.y.range[0]), max(plot.x.range[1], plot.y.range[1])
        line = {"color": "#8b95a1", "width": 1, "dash": "dot"}
        shapes.append({"type": "line", "x0": low, "y0": low, "x1": high, "y1": high, "layer": "below", "line": line})
    if plot.num_rows is not None:
        y["range"] = y["range"][::-1]  # the first on top
    return _figure(
        [trace for series in plot.series for trace in _traces(series)],
        xaxis=x,
        yaxis=y,
        shapes=shapes,
        annotations=[_annotation(bound, is_far=i % 2 == 1) for i, bound in enumerate(plot.bounds)],
    )


def _traces(series: Series) -> list[dict[str, Any]]:
    modes = [("lines", series.line), ("markers", series.symbol), ("text", series.texts)]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "+".join(mode for mode, is_drawn in modes if is_drawn),
        "name": html.escape(series.name),
        "showlegend": bool(series.name),
        "opacity": series.opacity,
        "x": _rounded(series.xs),
        "y": _rounded(series.ys),
        **_hovering(series.hovers),
    }
    if series.line:
        dash = "dash" if series.is_dashed else "solid"
        trace["line"] = {"shape": series.line, "color": series.color, "width": series.width, "dash": dash}
    if series.symbol:
        outline = {"width": 1.5, "color": series.color}
        trace |= {"marker": {"symbol": series.symbol, "color": series.color, "size": series.size, "line": outline}}
        trace |= {"cliponaxis": False}
    if series.texts:
        trace |= {"text": [html.escape(text) for text in series.texts], "textposition": "top center"}
        trace |= {"textfont": {"size": 11}}
    for axis, values, intervals in (("x", series.xs, series.x_intervals), ("y", series.ys, series.y_intervals)):
        if bars := _error_bars(values, intervals, series.color):
            trace[f"error_{axis}"] = bars
    return [*([_band(series)] if series.band else []), trace]


def _hovering(hovers: Sequence[Row | str]) -> dict[str, Any]:
    """Return what says where the pointer is; of a record its label, for which the page puts what it knows."""
    if not hovers:
        return {"hoverinfo": "skip"}
    key = "customdata" if isinstance(hovers[0], Row) else "hovertext"
    texts = [hover.record.label if isinstance(hover, Row) else html.escape(hover) for hover in hovers]
    return {key: texts, "hovertemplate": "%{hovertext}<extra></extra>"}


def _band(series: Series) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": _rounded([*series.xs, *reversed(series.xs)]),
        "y": _rounded([*(low for low, _ in series.band), *(high for _, high in reversed(series.band))]),
        "fill": "toself",
        "fillcolor": series.color,
        "opacity": 0.2,
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _error_bars(values: Sequence[float | None], intervals: Sequence[Range | None], color: str) -> dict[str, Any] | None:
    if not any(intervals):
        return None
    pairs = [(i or (v, v), v) for i, v in zip(intervals, values, strict=True) if v is not None]
    return {
        "type": "data",
        "symmetric": False,
        "array": _rounded([high - value for (_, high), value in pairs]),
        "arrayminus": _rounded([value - low for (low, _), value in pairs]),
        "color": color,
        "thickness": 1,
        "width": 3,
    }


def _draw_bars(bars: Bars) -> dict[str, Any]:
    names = [html.escape(label) for label in bars.labels]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": html.escape(name),
            "x": _rounded(values),
            "y": list(range(len(names))),
            "marker": {"color": color},
            "hovertext": [f"<b>{label}</b><br>{html.escape(t)}" for label, t in zip(names, texts, strict=True)],
            "hovertemplate": "%{hovertext}<extra></extra>",
        }
        for (name, color, values), texts in zip(bars.groups, bars.texts, strict=True)
    ]
    y = {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5]}
    return _figure(
        traces,
        xaxis=_axis(bars.x, bars.x.range),
        yaxis={**y, "zeroline": False, "automargin": True},
        barmode="group",
        bargap=0.25,
    )


def _draw_heat(heat: Heat) -> dict[str, Any]:
    x_title, y_title = html.escape(heat.x.title), html.escape(heat.y.title)
    told = heat.told.replace("{value", "%{z")
    trace = {
        "type": "heatmap",
        "x": _positions(heat.x, heat.xs),
        "y": _positions(heat.y, heat.ys),
        "z": [_rounded(row) for row in heat.values],
        "hovertemplate": f"{y_title} %{{y}}<br>{x_title} %{{x}}<br>{told}<extra></extra>",
        "zmin": heat.limits[0],
        "zmax": heat.limits[1],
        "meta": "sequential",
        "colorbar": {"thickness": 12, "len": 0.9, "outlinewidth": 0},
        "hoverongaps": False,
    }
    return _figure([trace], xaxis=_heat_axis(heat.x), yaxis=_heat_axis(heat.y, is_reversed=True))


def _positions(axis: Axis, values: Sequence[float]) -> list[Any]:
    return [html.escape(name) for _, name in axis.ticks] if axis.ticks else _rounded(values)


def _heat_axis(axis: Axis, *, is_reversed: bool = False) -> dict[str, Any]:
    """Return an axis of names, the first on top, or of numbers."""
    if not axis.ticks:
        return _axis(axis, axis.range)
    low, high = axis.range
    view = {"type": "category", "range": [high, low] if is_reversed else [low, high]}
    return {"title": _title(axis), "automargin": True, **view}


def _record_hover(row: Row, facts: Facts) -> str:
    latency = row.record.latency
    lines = [f"<b>{html.escape(name_of(row))}</b>  {html.escape(facts.words[kind_of(row)])}"]
    for metric in known_metrics([row]):
        text = metric_text(metric, row.metrics[metric])
        if metric == "latency_ratio" and latency:
            text = interval_text(latency.latency_ratio)
        lines.append(f"{html.escape(title_of(metric))}: {text}")
    settings = list(facts.settings(row.record).items())
    lines += [f"<i>{html.escape(name)}</i> = {html.escape(value)}" for name, value in settings[:_MAX_PARAMETERS]]
    if len(settings) > _MAX_PARAMETERS:
        lines.append(f"and {len(settings) - _MAX_PARAMETERS:,} more parameters")
    return "<br>".join(lines)


def _shapes(bound: Bound, plot: Plot) -> list[dict[str, Any]]:
    other = "y" if bound.axis == "x" else "x"
    across = {f"{other}ref": "paper", f"{other}0": 0, f"{other}1": 1, "layer": "below"}
    color = bound.color
    at = {f"{bound.axis}0": bound.value, f"{bound.axis}1": bound.value}
    shapes = [{"type": "line", **across, **at, "line": {"color": color, "width": 1.2, "dash": "dash"}}]
    if bound.operator:
        limits = (plot.x if bound.axis == "x" else plot.y).range
        reach = _BEYOND * (limits[1] - limits[0])
        end = bound.value + (reach if bound.operator == "<=" else -reach)
        shapes.append(
            {
                "type": "rect",
                **across,
                f"{bound.axis}0": bound.value,
                f"{bound.axis}1": end,
                "fillcolor": color,
                "opacity": 0.06,
                "line": {"width": 0},
            }
        )
    return shapes


def _annotation(bound: Bound, *, is_far: bool) -> dict[str, Any]:
    """Write beside a line; every other one at the far end, where close lines leave each other room."""
    text = {"text": html.escape(bound.text), "showarrow": False, "font": {"size": 11}}
    if bound.axis == "y":
        at = {"x": 1, "xanchor": "right"} if is_far else {"x": 0, "xanchor": "left"}
        return {**text, **at, "xref": "paper", "y": bound.value, "yanchor": "bottom"}
    at = {"y": 1, "yanchor": "top"} if is_far else {"y": 0, "yanchor": "bottom"}
    return {**text, **at, "yref": "paper", "x": bound.value, "xanchor": "left", "textangle": -90}


def _lines(text: str) -> str:
    return "<br>".join(html.escape(line) for line in text.splitlines())


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else float(f"{value:.{_DIGITS}g}") for value in values]
