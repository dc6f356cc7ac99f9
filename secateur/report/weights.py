"""A picture of a network's weights: which kernels are zero, layer by layer, before and after."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

Weights = Mapping[str, npt.NDArray[np.generic]]
"""Layer -> weight, the filters first."""

_DPI = 120
_TILE_INCHES = 1.35
_NUM_COLUMNS = 6
_COLORS = ListedColormap(np.linspace((0.93, 0.93, 0.90), (0.05, 0.42, 0.33), 64))
"""From all zero to all there."""


def render_weights_png(weights: Weights, reference: Weights | None = None) -> bytes:
    """Draw each layer as an image, a row for each filter, a column for each input channel.

    A pixel's colour is the fraction of the kernel's weights that are not zero. With a reference, a layer is drawn
    twice at one scale, so that what was removed leaves a gap.

    Args:
        weights: Those with two dimensions or more are drawn; at least one must have.
        reference: The same network before; layers of another name are left alone.
    """
    layers = {name: weight for name, weight in weights.items() if weight.ndim > 1}
    before = {} if reference is None else {name: reference[name] for name in layers if name in reference}
    num_images = 2 if before else 1
    num_columns = min(_NUM_COLUMNS // num_images, len(layers))
    num_rows = math.ceil(len(layers) / num_columns)
    width, height = max(num_columns * num_images * _TILE_INCHES, 5.0), 0.8 + num_rows * (_TILE_INCHES + 0.25)
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    words = "before and after" if before else "filters down, input channels across"
    figure.suptitle(f"Weights, {words}; pale: zero, white: removed", fontsize=9, x=0.01, ha="left")
    grid = figure.subplots(num_rows, num_columns * num_images, squeeze=False).flatten()
    for axes in grid:
        axes.set_axis_off()
    for position, (name, weight) in enumerate(layers.items()):
        dense = before.get(name)
        frame = weight.shape[:2] if dense is None else np.maximum(weight.shape[:2], dense.shape[:2])
        tiles = grid[position * num_images : (position + 1) * num_images]
        if num_images == 2 and dense is not None:
            _draw(tiles[0], dense, (int(frame[0]), int(frame[1])), f"{name}\n")
        _draw(tiles[-1], weight, (int(frame[0]), int(frame[1])), "\n" if num_images == 2 else f"{name}\n")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes: Axes, weight: npt.NDArray[np.generic], frame: tuple[int, int], title: str) -> None:
    density = (weight != 0).reshape(*weight.shape[:2], -1).mean(axis=2)
    axes.imshow(density, cmap=_COLORS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xlim(-0.5, frame[1] - 0.5)
    axes.set_ylim(frame[0] - 0.5, -0.5)
    axes.set_title(
        f"{title}{weight.shape[0]} x {weight.shape[1]}, {np.mean(weight == 0):.0%} zero", fontsize=6.5, loc="left"
    )
