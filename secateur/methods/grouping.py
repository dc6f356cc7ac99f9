"""Structures of a weight by Distiller's names, and their norms (SPEC 9).

Shapes: O filters, I input channels, H x W kernel.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Structure = Literal["2D", "Rows", "Cols", "Channels", "Filters", "3D"]
"""What has a norm of its own: kernels, rows and columns of a linear layer, input channels, filters (two names)."""
Criterion = Literal["Max", "Mean_Abs"]

_INSIDE: dict[str, tuple[int, tuple[int, ...]]] = {
    "2D": (4, (2, 3)),
    "Rows": (2, (1,)),
    "Cols": (2, (0,)),
    "Channels": (4, (0, 2, 3)),
    "Filters": (4, (1, 2, 3)),
    "3D": (4, (1, 2, 3)),
    "4D": (4, (0, 1, 2, 3)),
}
"""Structure -> number of the weight's dimensions, and those that lie inside one structure."""


def structure_problem(structure: str, shape: tuple[int, ...]) -> str | None:
    """Return what a structure needs instead of a weight of such a shape; None if it is right."""
    num_dims = _INSIDE[structure.partition("+")[0]][0]
    if len(shape) == num_dims:
        return None
    return f"{structure} needs {'a convolution' if num_dims == 4 else 'a linear layer'}'s weight."


def l2_norms(weight: Tensor, structure: str) -> Tensor:
    """Return the L2 norm of each structure, with gradients; that of a silent structure is zero."""
    norms: Tensor = torch.linalg.vector_norm(weight, dim=_INSIDE[structure][1])
    return norms


def group_mask(weight: Tensor, structure: str, threshold: float, criterion: Criterion) -> Tensor:
    """Return which structures are larger than a threshold, as a bool mask of the weight's shape.

    Args:
        weight: O x I x H x W, or `out_features x in_features`.
        structure: What is kept or goes as a whole.
        threshold: What equals it goes, too.
        criterion: The size of a structure: its largest absolute value, or their mean.
    """
    inside = _INSIDE[structure][1]
    magnitudes = weight.detach().abs()
    size = magnitudes.amax(inside, keepdim=True) if criterion == "Max" else magnitudes.mean(inside, keepdim=True)
    return (size > threshold).expand(weight.shape)
