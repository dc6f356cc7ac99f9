"""An explanation for people: a page with the figures, and one picture."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from secateur.findings import Explanation, LayerCost, Roof
from secateur.report.circumstances import device_text
from secateur.report.formats import ABSENT, interval_text
from secateur.report.frame import html_page, plot, section
from secateur.report.tables import definition_list, html_table
from secateur.report.verdict import csr_ratios, verdict

COLUMNS = (
    "shape",
    "thinned",
    "ms",
    "thinned ms",
    "MACs/byte",
    "GMAC/s",
    "thinned GMAC/s",
    "GB/s",
    "bound by",
    "of roof",
)
"""Of the table of layers."""

_DPI = 100
_BEFORE, _AFTER, _ROOF = "#2a78d6", "#f2711c", "#444444"


def render_png(found: Explanation) -> bytes:
    """Return layer times, roofline, masks and sparse storage in one picture."""
    figure = Figure(figsize=(12, 7.5), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    title = f"{found.model}, {found.schedule}: what pruning changes on {found.device.profile or found.device.device}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    panels = figure.subplot_mosaic([["times", "times"], ["roof", "networks"], ["roof", "storage"]])
    _draw_times(panels["times"], found)
    _draw_roof(panels["roof"], found)
    _draw_networks(panels["networks"], found)
    _draw_storage(panels["storage"], found)
    for axes in panels.values():
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw_times(axes: Axes, found: Explanation) -> None:
    positions = np.arange(len(found.layers))
    axes.bar(positions - 0.2, [layer.unpruned.ms * 1e3 for layer in found.layers], 0.4, color=_BEFORE, label="unpruned")
    axes.bar(positions + 0.2, [layer.thinned_ms * 1e3 for layer in found.layers], 0.4, color=_AFTER, label="thinned")
    axes.set_xticks(positions, [layer.name for layer in found.layers], rotation=90, fontsize=5)
    axes.set_title("time of each layer, µs", loc="left", fontsize=9)
    axes.margins(x=0.01)
    axes.legend(fontsize=8, frameon=False)


def _draw_roof(axes: Axes, found: Explanation) -> None:
    axes.set_title("roofline: GMAC/s by MACs a byte, measured", loc="left", fontsize=9)
    if found.roof is None:
        return
    for costs, color, label in _clouds(found):
        axes.scatter(
            [cost.intensity for cost in costs], [_gmacs(cost) for cost in costs],
            s=[20 + 2e3 * cost.ms for cost in costs], color=color, alpha=0.6, lw=0, label=label,
        )  # fmt: skip
    for position, (label, x, y) in enumerate(_roof_lines(found)):
        axes.plot(x, y, color=_ROOF, lw=1)
        axes.annotate(label, (x[0], y[0]), fontsize=7, color=_ROOF, va="top" if position == 2 else "bottom")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for handle in axes.legend(fontsize=8, frameon=False).legend_handles:
        if handle is not None:
            handle.set(sizes=[30])


def _draw_networks(axes: Axes, found: Explanation) -> None:
    networks = _networks(found)
    ratios = [network.latency_ratio for _, network in networks]
    errors = np.array([[r.estimate - r.low for r in ratios], [r.high - r.estimate for r in ratios]])
    axes.barh(
        range(len(ratios)), [r.estimate for r in ratios], xerr=errors, color=[_BEFORE, _BEFORE, _AFTER], height=0.6
    )
    axes.axvline(found.thinned.macs / found.unpruned.macs, color=_ROOF, lw=1, ls=":")
    axes.set_yticks(range(len(ratios)), [name for name, _ in networks], fontsize=8)
    axes.invert_yaxis()
    axes.set_title("latency ratio (dotted: MACs of the thinned)", loc="left", fontsize=9)


def _draw_storage(axes: Axes, found: Explanation) -> None:
    for name, color, sparsities, ratios in _storage_lines(found):
        axes.plot(sparsities, ratios, "o-", color=color, ms=4, label=f"relative to {name}")
    axes.axhline(1, color=_ROOF, lw=1)
    axes.set_yscale("log")
    axes.set_title("time of all layers with weights in CSR, by sparsity", loc="left", fontsize=9)
    axes.legend(fontsize=8, frameon=False)


def _storage_lines(found: Explanation) -> Iterable[tuple[str, str, list[float], list[float]]]:
    ratios = csr_ratios(found)
    yield "dense products", _AFTER, list(ratios), [of_dense for of_dense, _ in ratios.values()]
    of_device = {sparsity: ratio for sparsity, (_, ratio) in ratios.items() if ratio is not None}
    if of_device:
        yield "the device", _BEFORE, list(of_device), list(of_device.values())


def render_html(found: Explanation) -> str:
    """Return the explanation as one self-contained page of about 2 MB."""
    said = verdict(found)
    sections = [section("Verdict", "".join(f"<p>{html.escape(sentence)}</p>" for sentence in said))]
    if found.layers:
        sections += [_plot_times(found), _plot_roof(found)]
    if csr_ratios(found):
        sections.append(_plot_storage(found))
    if found.layers:
        lines = [
            (name, [f'<td class="number">{html.escape(cell)}</td>' for cell in cells]) for name, *cells in rows(found)
        ]
        sections.append(section("Layers", html_table("Layers", COLUMNS, lines)))
    sections.append(section("Versions", definition_list(found.versions)))
    return html_page(
        overline="secateur explanation",
        name=found.model,
        what=f"{found.model}, {found.schedule}, measured on {device_text(found.device)}",
        headline=said[0],
        tiles=[
            (name, f"{network.latency_ratio.estimate:.3f}", f"latency ratio, {interval_text(network.latency_ratio)}")
            for name, network in _networks(found)
        ],
        sections=sections,
        footer="Peaks are this device's own, measured; nothing is taken from a data sheet. Written by secateur.",
    )


def rows(found: Explanation) -> list[tuple[str, ...]]:
    """Return the table of layers: the name, then `COLUMNS`."""
    return [
        (
            layer.name,
            _shape(layer.shape),
            _shape(layer.thinned_shape) if layer.is_smaller else "",
            f"{layer.unpruned.ms:.3f}",
            f"{layer.thinned_ms:.3f}",
            f"{layer.unpruned.intensity:.1f}",
            f"{_gmacs(layer.unpruned):.1f}",
            ABSENT if layer.thinned is None else f"{_gmacs(layer.thinned):.1f}",
            f"{layer.unpruned.num_bytes / layer.unpruned.ms / 1e6:.1f}",
            layer.unpruned.bound,
            f"{layer.unpruned.attained:.0%}",
        )
        for layer in found.layers
    ]


def _shape(shape: tuple[int, ...] | None) -> str:
    return ABSENT if shape is None else " x ".join(map(str, shape))


def _networks(found: Explanation) -> list[tuple[str, Any]]:
    return [("unpruned", found.unpruned), ("masked", found.masked), ("thinned", found.thinned)]


def _gmacs(cost: LayerCost) -> float:
    """Return GMAC/s."""
    return cost.macs / cost.ms / 1e6


def _clouds(found: Explanation) -> Iterable[tuple[Sequence[LayerCost], str, str]]:
    yield [layer.unpruned for layer in found.layers], _BEFORE, "unpruned (area: time)"
    yield [layer.thinned for layer in found.layers if layer.thinned is not None], _AFTER, "thinned"


def _roof_lines(found: Explanation) -> Iterable[tuple[str, list[float], list[float]]]:
    """Yield the roof over the range of intensities: its level, and slopes for the fastest and the largest copy."""
    roof: Roof | None = found.roof
    assert roof is not None
    found_at = [cost.intensity for costs, _, _ in _clouds(found) for cost in costs]
    low, high = min(found_at) / 2, max(found_at) * 4
    peak = roof.macs_per_s / 1e9
    yield f"{peak:.0f} GMAC/s", [low, high], [peak, peak]
    fastest = max(roof.copies, key=lambda copy: copy.num_bytes / copy.ms)
    for copy in (fastest, roof.copies[-1]):
        rate = copy.num_bytes / copy.ms / 1e6
        knee = min(peak / rate, high)
        yield f"{rate:.0f} GB/s ({copy.num_bytes / 1e6:.1f} MB)", [low, knee], [low * rate, knee * rate]


def _layout(x_title: str, y_title: str, **axes: Any) -> dict[str, Any]:
    x, y = ({"title": {"text": title}, "zeroline": False, "automargin": True} for title in (x_title, y_title))
    return {
        "xaxis": x | axes.pop("x", {}),
        "yaxis": y | axes.pop("y", {}),
        "annotations": [],
        "margin": {"l": 16, "r": 16, "t": 16, "b": 16},
        "hovermode": "closest",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        **axes,
    }


def _plot_times(found: Explanation) -> str:
    names = [html.escape(layer.name) for layer in found.layers]
    series = [
        ("unpruned", _BEFORE, [layer.unpruned.ms for layer in found.layers]),
        ("thinned", _AFTER, [layer.thinned_ms for layer in found.layers]),
    ]
    traces = [
        {"type": "bar", "name": name, "x": names, "y": times_ms, "marker": {"color": color}}
        for name, color, times_ms in series
    ]
    figure = {"data": traces, "layout": _layout("", "ms", barmode="group")}
    return plot("times", "Time of each layer", figure, description=verdict(found)[0])


def _plot_roof(found: Explanation) -> str:
    names = {id(cost): layer.name for layer in found.layers for cost in (layer.unpruned, layer.thinned)}
    clouds = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": label,
            "x": [cost.intensity for cost in costs],
            "y": [_gmacs(cost) for cost in costs],
            "text": [html.escape(f"{names[id(cost)]}: {cost.ms:.3f} ms, {cost.kernel}") for cost in costs],
            "marker": {"color": color, "size": 9, "opacity": 0.7},
            "hovertemplate": "%{text}<br>%{x:.1f} MACs a byte, %{y:.1f} GMAC/s<extra></extra>",
        }
        for costs, color, label in _clouds(found)
    ]
    lines = [
        {"type": "scatter", "mode": "lines", "name": label, "x": x, "y": y, "line": {"color": _ROOF, "width": 1}}
        for label, x, y in _roof_lines(found)
    ]
    layout = _layout("MACs a byte", "GMAC/s", x={"type": "log"}, y={"type": "log"})
    note = "A layer under the level of the roof is bound by arithmetic, under a slope by memory; far below, by neither."
    return plot("roofline", "Roofline", {"data": [*clouds, *lines], "layout": layout}, description=note, note=note)


def _plot_storage(found: Explanation) -> str:
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": f"relative to {name}",
            "x": sparsities,
            "y": ratios,
            "line": {"color": color},
        }
        for name, color, sparsities, ratios in _storage_lines(found)
    ]
    layout = _layout("sparsity", "time with CSR", y={"type": "log"})
    note = "Below 1, weights stored as compressed sparse rows are faster on this host's CPU."
    return plot("storage", "Dense against CSR", {"data": traces, "layout": layout}, description=note, note=note)
