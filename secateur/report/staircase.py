"""A staircase for people: PNG and a page."""

from __future__ import annotations

import html
import io
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from secateur.findings import Staircase, Step
from secateur.report.circumstances import device_text
from secateur.report.formats import interval_text
from secateur.report.frame import html_page, plot, section
from secateur.report.tables import html_table

_DPI = 120
_POINTS, _STEPS = "#2a78d6", "#d62a2a"


def headline(staircase: Staircase) -> str:
    """Return what was found, in a sentence; a second one, if points are noisy."""
    num_noisy = sum(point.is_noisy for point in staircase.points)
    noise = f" {num_noisy} of {len(staircase.points)} points are noisy: a quiet machine may tell more steps apart."
    return _finding(staircase) + (noise if num_noisy else "")


def _finding(staircase: Staircase) -> str:
    if len(staircase.allowed) < 2:
        return (
            f"No number of filters of {staircase.name} is faster than all {staircase.num_filters}, as far as"
            " this measurement can tell."
        )
    counts = ", ".join(str(point.num_kept) for point in staircase.allowed)
    fastest = next(step for step in staircase.steps if step.is_worthwhile)
    return (
        f"Worth having of {staircase.name}'s {staircase.num_filters} filters: {counts}; beside any other number, there"
        f" is a larger one that costs no more, within the error. With {fastest.most}, the network takes"
        f" {fastest.latency_ratio:.3f} of its time."
    )


def render_png(staircase: Staircase) -> bytes:
    """Return latency ratios with their intervals over the number of filters, and the steps."""
    figure = Figure(figsize=(8, 4.5), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    ratios = [point.latency_ratio for point in staircase.points]
    below = [ratio.estimate - ratio.low for ratio in ratios]
    above = [ratio.high - ratio.estimate for ratio in ratios]
    counts = [point.num_kept for point in staircase.points]
    axes.errorbar(
        counts, [r.estimate for r in ratios], np.array([below, above]), fmt="o", ms=3, lw=1, color=_POINTS,
        label="measured, 95 % interval",
    )  # fmt: skip
    x, y = _outline(staircase.steps)
    axes.plot(x, y, color=_STEPS, lw=1.5, label="steps")
    axes.plot(
        [p.num_kept for p in staircase.allowed],
        [s.latency_ratio for s in staircase.steps if s.is_worthwhile],
        "o", ms=8, mfc="none", color=_STEPS, label="worth having",
    )  # fmt: skip
    axes.set_title(f"{staircase.model}, {staircase.name}", loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(f"filters left of {staircase.num_filters}")
    axes.set_ylabel("latency ratio")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _outline(steps: tuple[Step, ...]) -> tuple[list[float], list[float]]:
    """Return the corners of a line that rises half-way between two steps."""
    edges = [(low.most + high.fewest) / 2 for low, high in pairwise(steps)]
    corners = [float(steps[0].fewest), *(edge for edge in edges for _ in range(2)), float(steps[-1].most)]
    return corners, [step.latency_ratio for step in steps for _ in range(2)]


def render_html(staircase: Staircase) -> str:
    """Return the staircase as one self-contained page of about 2 MB."""
    fastest = min(staircase.points, key=lambda point: point.latency_ratio.estimate)
    what = f"{staircase.model} at {staircase.input_size} x {staircase.input_size} pixels"
    return html_page(
        overline="secateur staircase",
        name=staircase.name,
        what=f"{what}, measured on {device_text(staircase.device)}",
        headline=headline(staircase),
        tiles=[
            ("filters", str(staircase.num_filters), f"{len(staircase.points)} numbers of them measured"),
            ("steps", str(len(staircase.steps)), f"{len(staircase.allowed)} worth having"),
            ("fastest", f"{fastest.latency_ratio.estimate:.3f}", f"latency ratio with {fastest.num_kept} filters"),
        ],
        sections=[_plot(staircase), section("Steps", _steps_table(staircase)), section("Points", _points(staircase))],
        footer="Random weights, one layer pruned alone; ratios to the unpruned network, paired. Written by secateur.",
    )


def _plot(staircase: Staircase) -> str:
    ratios = [point.latency_ratio for point in staircase.points]
    x, y = _outline(staircase.steps)
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "measured",
            "x": [point.num_kept for point in staircase.points],
            "y": [ratio.estimate for ratio in ratios],
            "error_y": {
                "type": "data",
                "symmetric": False,
                "array": [ratio.high - ratio.estimate for ratio in ratios],
                "arrayminus": [ratio.estimate - ratio.low for ratio in ratios],
            },
            "marker": {"color": _POINTS, "size": 6},
            "hovertemplate": "%{x} filters: %{y:.4f}<extra></extra>",
        },
        {
            "type": "scatter",
            "mode": "lines",
            "name": "steps",
            "x": x,
            "y": y,
            "line": {"color": _STEPS, "width": 2},
            "hoverinfo": "skip",
        },
    ]
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": "filters left"}, "zeroline": False, "automargin": True},
        "yaxis": {"title": {"text": "latency ratio"}, "zeroline": False, "automargin": True},
        "annotations": [],
        "margin": {"l": 16, "r": 16, "t": 16, "b": 16},
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    figure = {"data": traces, "layout": layout}
    return plot("staircase", "Latency by number of filters", figure, description=headline(staircase))


def _steps_table(staircase: Staircase) -> str:
    lines = [
        (
            f"{step.fewest} to {step.most}" if step.fewest < step.most else str(step.most),
            [
                f'<td class="number">{step.latency_ratio:.4f} ± {step.standard_error:.4f}</td>',
                f"<td>{'yes' if step.is_worthwhile else 'no: more filters are as fast'}</td>",
            ],
        )
        for step in staircase.steps
    ]
    return html_table("Steps", ["latency ratio", "worth having"], lines)


def _points(staircase: Staircase) -> str:
    lines = [
        (
            str(point.num_kept),
            [
                f'<td class="number">{html.escape(text)}</td>'
                for text in (
                    f"{point.desired_sparsity:g}",
                    interval_text(point.latency_ratio) + (" noisy" if point.is_noisy else ""),
                )
            ],
        )
        for point in staircase.points
    ]
    return html_table("Points", ["desired sparsity", "latency ratio"], lines)
