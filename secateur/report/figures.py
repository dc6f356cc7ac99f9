"""Pictures as plotly figures: plain JSON, so that a page is written without building plotly's objects."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from plotly.offline import get_plotlyjs

from secateur.report.correlation import known_metrics
from secateur.report.facts import KINDS, Facts, Kind, kind_of, name_of
from secateur.report.formats import interval_text, metric_text, title_of
from secateur.report.picture import COLORS, MAX_LABELS, Axis, Bound, Line, Picture, Point

_MARKERS: dict[Kind, tuple[str, int]] = {
    "front": ("circle", 12),
    "feasible": ("circle", 8),
    "infeasible": ("circle-open", 8),
    "noisy": ("diamond", 10),
    "suspect": ("triangle-down", 10),
    "failed": ("x", 9),
    "pending": ("circle-open-dot", 9),
    "unpruned": ("star", 15),
    "off_the_shelf": ("square", 11),
}
"""Symbol and size, as plotly names them."""

_MAX_PARAMETERS = 12
_BEYOND = 100
"""How many widths of the axis an unwanted side is shaded, so that zooming out shows no edge."""


def plotly_script() -> str:
    """Return plotly's own script, 4.8 MB."""
    return str(get_plotlyjs())


def figure(picture: Picture, facts: Facts) -> dict[str, Any]:
    """Return a plotly figure; fonts and grid take the page's colours when it is shown."""
    traces = [_line_trace(picture.line)] if picture.line else []
    traces += [
        _marker_trace(kind, [p for p in picture.points if p.kind == kind], facts)
        for kind in KINDS
        if any(p.kind == kind for p in picture.points)
    ]
    return {
        "data": traces,
        "layout": {
            "xaxis": _axis(picture.x, picture),
            "yaxis": _axis(picture.y, picture),
            "shapes": [shape for bound in picture.bounds for shape in _shapes(bound, picture)],
            "annotations": [_annotation(bound) for bound in picture.bounds],
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "margin": {"l": 16, "r": 16, "t": 16, "b": 16},
            "hovermode": "closest",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
        },
    }


def _axis(axis: Axis, picture: Picture) -> dict[str, Any]:
    return {
        "title": {"text": html.escape(axis.title)},
        "range": list(axis.focus if picture.has_focus else axis.range),
        "zeroline": False,
        "automargin": True,
    }


def _line_trace(line: Line) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": html.escape(line.name),
        "x": list(line.xs),
        "y": list(line.ys),
        "line": {"shape": line.shape, "color": COLORS["front"], "width": 2},
        "hoverinfo": "skip",
    }


def _marker_trace(kind: Kind, points: Sequence[Point], facts: Facts) -> dict[str, Any]:
    (symbol, size), color = _MARKERS[kind], COLORS[kind]
    is_labelled = kind == "front" and len(points) <= MAX_LABELS
    return {
        "type": "scatter",
        "mode": "markers+text" if is_labelled else "markers",
        "text": [html.escape(p.row.record.label) for p in points],
        "textposition": "top center",
        "textfont": {"size": 11},
        "cliponaxis": False,
        "name": html.escape(facts.words[kind]),
        "x": [p.x for p in points],
        "y": [p.y for p in points],
        "marker": {"symbol": symbol, "color": color, "size": size, "line": {"width": 1.5, "color": color}},
        "hovertext": [_hover(p, facts) for p in points],
        "hovertemplate": "%{hovertext}<extra></extra>",
        **{f"error_{axis}": bars for axis in ("x", "y") if (bars := _error_bars(points, axis, color))},
    }


def _error_bars(points: Sequence[Point], axis: str, color: str) -> dict[str, Any]:
    intervals = [p.x_interval if axis == "x" else p.y_interval for p in points]
    values = [p.x if axis == "x" else p.y for p in points]
    if not any(intervals):
        return {}
    pairs = [(i or (v, v), v) for i, v in zip(intervals, values, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [interval[1] - value for interval, value in pairs],
        "arrayminus": [value - interval[0] for interval, value in pairs],
        "color": color,
        "thickness": 1,
        "width": 3,
    }


def _hover(point: Point, facts: Facts) -> str:
    row = point.row
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


def _shapes(bound: Bound, picture: Picture) -> list[dict[str, Any]]:
    other = "y" if bound.axis == "x" else "x"
    across = {f"{other}ref": "paper", f"{other}0": 0, f"{other}1": 1, "layer": "below"}
    color = bound.color
    at = {f"{bound.axis}0": bound.value, f"{bound.axis}1": bound.value}
    shapes = [{"type": "line", **across, **at, "line": {"color": color, "width": 1.2, "dash": "dash"}}]
    if bound.operator:
        limits = (picture.x if bound.axis == "x" else picture.y).range
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


def _annotation(bound: Bound) -> dict[str, Any]:
    text = {"text": html.escape(bound.text), "showarrow": False, "font": {"size": 11}}
    if bound.axis == "y":
        return {**text, "xref": "paper", "x": 0, "xanchor": "left", "y": bound.value, "yanchor": "bottom"}
    return {**text, "yref": "paper", "y": 0, "yanchor": "bottom", "x": bound.value, "xanchor": "left", "textangle": -90}
