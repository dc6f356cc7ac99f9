"""A sensitivity analysis for people and spreadsheets: CSV, PNG and a page."""

from __future__ import annotations

import colorsys
import csv
import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from secateur.report.circumstances import device_text
from secateur.report.formats import ABSENT, interval_text, metric_text
from secateur.report.frame import Tile, html_page, plot, section
from secateur.report.tables import definition_list, html_table
from secateur.sensitivity_results import LayerSensitivity, Sensitivity, SensitivityPoint

COLUMNS = (
    "layers",
    "num_filters",
    "desired_sparsity",
    "num_removed",
    "top1",
    "top1_drop",
    "top5",
    "loss",
    "num_params",
    "macs",
    "latency_ratio",
    "latency_ratio_low",
    "latency_ratio_high",
    "is_noisy",
)
"""Of the CSV. `layers` are separated by spaces; what was not measured is empty."""

_DPI = 120
_ROW_INCHES, _COLUMN_INCHES = 0.29, 0.5
_DARK = 0.45
"""Share of the scale below which text is white."""
_FAST = 0.9
"""A latency ratio that is coloured at least, so that noise around 1 stays pale."""


def render_csv(analysis: Sensitivity) -> str:
    """Return one line for each structure and sparsity."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for unit in analysis.units:
        for p in unit.points:
            ratio = p.latency_ratio
            measured = [None] * 4 if ratio is None else [ratio.estimate, ratio.low, ratio.high, p.is_noisy]
            quality = [p.top1, analysis.unpruned.top1 - p.top1, p.top5, p.loss, p.num_params, p.macs]
            writer.writerow([" ".join(unit.layers), unit.num_filters, p.sparsity, p.num_removed, *quality, *measured])
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class _Panel:
    """One coloured table; both scales are darkest where they begin."""

    title: str
    colors: str
    limits: tuple[float, float]
    value: Callable[[SensitivityPoint], float]
    text: Callable[[SensitivityPoint], str]


def _panels(analysis: Sensitivity) -> list[_Panel]:
    def ratio(point: SensitivityPoint) -> float:
        assert point.latency_ratio is not None
        return point.latency_ratio.estimate

    top1 = _Panel(
        title=f"top1 % (unpruned: {metric_text('top1', analysis.unpruned.top1)})",
        colors="YlGnBu_r",
        limits=(0.0, analysis.unpruned.top1),
        value=lambda point: point.top1,
        text=lambda point: f"{point.top1:.1f}",
    )
    if analysis.device is None:
        return [top1]
    latency = _Panel(
        title="latency ratio (~ noisy)",
        colors="Greens_r",
        limits=(min(_FAST, *(ratio(point) for unit in analysis.units for point in unit.points)), 1.0),
        value=ratio,
        text=lambda point: f"{'~' if point.is_noisy else ''}{ratio(point):.2f}",
    )
    return [top1, latency]


def render_png(analysis: Sensitivity) -> bytes:
    """Return top1 (and the latency ratio) of every structure at every sparsity as a coloured table."""
    panels = _panels(analysis)
    num_rows, num_columns = len(analysis.units), len(analysis.units[0].points)
    width = 2.4 + len(panels) * (num_columns * _COLUMN_INCHES + 0.9)
    figure = Figure(figsize=(max(width, 7.0), 1.5 + num_rows * _ROW_INCHES), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{analysis.model}: each layer pruned alone", x=0.01, ha="left", fontsize=12, fontweight="bold")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, analysis)
    figure.axes[0].set_yticks(range(num_rows), [unit.name for unit in analysis.units], fontsize=8)
    figure.supxlabel(f"sparsity ({_images_text(analysis)})", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes: Axes, panel: _Panel, analysis: Sensitivity) -> None:
    scale = Normalize(*panel.limits, clip=True)
    values = np.array([[panel.value(point) for point in unit.points] for unit in analysis.units])
    axes.imshow(values, cmap=panel.colors, norm=scale, aspect="auto")
    for y, unit in enumerate(analysis.units):
        for x, point in enumerate(unit.points):
            color = "white" if float(scale(panel.value(point))) < _DARK else "black"
            axes.text(x, y, panel.text(point), ha="center", va="center", fontsize=7, color=color)
    axes.set_title(panel.title, loc="left", fontsize=9)
    axes.set_xticks(range(values.shape[1]), [f"{p.sparsity:.4g}" for p in analysis.units[0].points], fontsize=8)
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def render_html(analysis: Sensitivity) -> str:
    """Return the analysis as one self-contained page of about 2 MB."""
    ranked = sorted(analysis.units, key=lambda unit: unit.cost(analysis.unpruned.top1))
    sections = [_curves("top1", "Top1 of each layer pruned alone", "top1 %", lambda p: p.top1, analysis)]
    if analysis.device is not None:
        sections.append(
            _curves("latency", "Latency ratio of each layer pruned alone", "latency ratio", _ratio, analysis)
        )
    sections.append(section("Every figure", _table(analysis)))
    if analysis.left_out:
        sections.append(section("Left out", definition_list(analysis.left_out)))
    device = "not measured" if analysis.device is None else f"measured on {device_text(analysis.device)}"
    return html_page(
        overline="secateur sensitivity analysis",
        name=analysis.model,
        what=f"{analysis.model} on {analysis.dataset} ({_images_text(analysis)}), {device}",
        headline=headline(analysis),
        tiles=[
            ("top1 unpruned", f"{_percent(analysis.unpruned.top1)}", f"{analysis.num_params:,} parameters"),
            _tile("least sensitive", ranked[0], analysis),
            _tile("most sensitive", ranked[-1], analysis),
        ],
        sections=sections,
        footer="Each layer was pruned alone, without retraining (Li et al. 2017, sec. 3.2). Written by secateur.",
    )


def headline(analysis: Sensitivity) -> str:
    """Return what was found, in a sentence."""
    top1 = analysis.unpruned.top1
    ranked = sorted(analysis.units, key=lambda unit: unit.cost(top1))
    return (
        f"{ranked[0].name} bears pruning best (it costs {ranked[0].cost(top1):.2f} points of top1 on average),"
        f" {ranked[-1].name} worst ({ranked[-1].cost(top1):.2f})."
    )


def _tile(title: str, unit: LayerSensitivity, analysis: Sensitivity) -> Tile:
    return title, f"{unit.cost(analysis.unpruned.top1):.2f} points", f"{unit.name}, mean over all sparsities"


def _ratio(point: SensitivityPoint) -> float | None:
    return None if point.latency_ratio is None else point.latency_ratio.estimate


def _curves(
    name: str, title: str, y_title: str, value_of: Callable[[SensitivityPoint], float | None], analysis: Sensitivity
) -> str:
    start = analysis.unpruned.top1 if name == "top1" else 1.0
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": html.escape(unit.name),
            "x": [0.0, *(point.sparsity for point in unit.points)],
            "y": [start, *(value_of(point) for point in unit.points)],
            "line": {"color": _color(position / max(len(analysis.units) - 1, 1)), "width": 1.5},
            "marker": {"size": 5},
            "hovertemplate": f"<b>{html.escape(unit.name)}</b><br>%{{x}}: {y_title} %{{y:.4g}}<extra></extra>",
        }
        for position, unit in enumerate(analysis.units)
    ]
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "sparsity"}, "zeroline": False, "automargin": True},
        "yaxis": {"title": {"text": y_title}, "zeroline": False, "automargin": True},
        "annotations": [],
        "margin": {"l": 16, "r": 16, "t": 16, "b": 16},
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    note = "From the network's first layers (blue) to its last (red). A click on a name hides it, two show it alone."
    return plot(name, title, {"data": traces, "layout": layout}, description=headline(analysis), note=note)


def _color(depth: float) -> str:
    """Return a colour from blue (0) to red (1), as CSS writes it."""
    rgb = colorsys.hls_to_rgb(0.6 * (1 - depth), 0.5, 0.7)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)


def _table(analysis: Sensitivity) -> str:
    lines = []
    for unit in analysis.units:
        for p in unit.points:
            drop = analysis.unpruned.top1 - p.top1
            ratio = ABSENT if p.latency_ratio is None else interval_text(p.latency_ratio)
            cells = [
                f"{p.sparsity:.4g}",
                f"{unit.num_filters - p.num_removed:,} of {unit.num_filters:,}",
                metric_text("top1", p.top1),
                metric_text("top1_drop", drop),
                ratio + (" noisy" if p.is_noisy else ""),
                metric_text("num_params", p.num_params),
                metric_text("macs", p.macs),
            ]
            lines.append((unit.name, [f'<td class="number">{html.escape(cell)}</td>' for cell in cells]))
    columns = ["sparsity", "filters kept", "top1 %", "top1 drop", "latency ratio", "params", "MACs"]
    return html_table("Every figure", columns, lines)


def _images_text(analysis: Sensitivity) -> str:
    return f"{analysis.unpruned.num_images:,} validation images"


def _percent(top1: float) -> str:
    return f"{metric_text('top1', top1)} %"
