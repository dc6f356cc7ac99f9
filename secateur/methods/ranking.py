"""Rank structures and elements of weights, and say how many go (Distiller's rules, SPEC section 4.1).

Shapes: O filters, I input channels, H x W kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["L1", "L2"]
Side = Literal["filters", "channels"]


def count_removed(num_structures: int, desired_sparsity: float) -> int:
    """Return how many of `num_structures` go: ``floor(desired_sparsity * n)``, but at least one stays.

    The product is taken in double precision, as Distiller does: 0.29 of 100 are 28.
    """
    return min(math.floor(desired_sparsity * num_structures), num_structures - 1)


def sparsity_leaving(num_kept: int, num_filters: int) -> float:
    """Return the shortest decimal with which a pruner leaves exactly so many filters; see `count_removed`.

    Args:
        num_kept: 1 to `num_filters`.
        num_filters: Before pruning.
    """
    num_removed = num_filters - num_kept
    for num_decimals in range(1, 18):
        scale: int = 10**num_decimals
        sparsity = -(-num_removed * scale // num_filters) / scale
        if sparsity < 1 and count_removed(num_filters, sparsity) == num_removed:
            return sparsity
    raise AssertionError("a double tells so many filters apart")


def rounded(count: int, num_structures: int, multiple: int) -> int:
    """Return how many go, at most `count`, if a multiple of `multiple` is to stay; none, where that cannot be."""
    num_kept = -(-(num_structures - count) // multiple) * multiple
    return max(num_structures - num_kept, 0)


def without_smallest(magnitudes: Tensor, count: int) -> Tensor:
    """Return which of `magnitudes` stay when the `count` smallest go.

    Exactly `count` go; of equal ones, those that come first. (Distiller removes all that tie with the last to go.)
    But zeros are gone already: where the last to go is zero, every zero is masked, as Distiller does.

    Args:
        magnitudes: Of any shape; none negative.
        count: From 0 to the number of magnitudes.

    Returns:
        A bool tensor of the same shape, True = keep.
    """
    keep = torch.ones(magnitudes.numel(), dtype=torch.bool, device=magnitudes.device)
    if count:
        order = magnitudes.flatten().argsort(stable=True)
        keep[order[:count]] = False
        if magnitudes.flatten()[order[count - 1]] == 0:
            keep &= magnitudes.flatten() != 0
    return keep.view(magnitudes.shape)


def structure_norms(weight: Tensor, side: Side, norm: Norm) -> Tensor:
    """Return the size of every filter or channel (Li et al. 2017, sec. 3.1).

    Args:
        weight: O x I x H x W, or `out_features x in_features`.
        side: Along dimension 0 (filters) or 1 (channels).
        norm: Sum of absolute values (L1), or root of the sum of squares (L2).

    Returns:
        O or I numbers. Summed in double precision, so that an order does not depend on how a machine adds up.
    """
    rows = weight.detach().transpose(0, 0 if side == "filters" else 1).flatten(1).double()
    return _norm(rows, norm, dim=1)


def keep_mask(weight: Tensor, side: Side, norm: Norm, desired_sparsity: float) -> Tensor:
    """Return a bool mask over filters or channels, True = keep; `count_removed` go."""
    norms = structure_norms(weight, side, norm)
    return without_smallest(norms, count_removed(len(norms), desired_sparsity))


def along(mask: Tensor, dim: int, weight: Tensor) -> Tensor:
    """Return a mask over one dimension of a weight as a mask of the weight's shape (a view)."""
    shape = [1] * weight.dim()
    shape[dim] = -1
    return mask.view(shape).expand(weight.shape)


def block_norms(weight_OIHW: Tensor, block_shape: Sequence[int], norm: Norm) -> Tensor:
    """Return the size of every block (SPEC 4.4).

    Args:
        weight_OIHW: A convolution's weight.
        block_shape: `r x d x 1 x 1`: one position of the kernel, over `r * d` successive kernels; with d = 1, over the
            same kernel of `r` successive filters.
        norm: See `structure_norms`.

    Returns:
        `num_super_blocks x num_columns`; see `blocks_mask` for the way back.
    """
    return _norm(_as_blocks(weight_OIHW, block_shape).double(), norm, dim=1)


def blocks_mask(keep: Tensor, weight_OIHW: Tensor, block_shape: Sequence[int]) -> Tensor:
    """Return a mask over blocks, as `block_norms` lists them, as a mask of the weight's shape."""
    return keep.unsqueeze(1).expand(_as_blocks(weight_OIHW, block_shape).shape).reshape(weight_OIHW.shape)


def _as_blocks(weight_OIHW: Tensor, block_shape: Sequence[int]) -> Tensor:
    repetitions, depth = block_shape[:2]
    if depth == 1:
        return weight_OIHW.detach().reshape(weight_OIHW.shape[0] // repetitions, repetitions, -1)
    return weight_OIHW.detach().reshape(-1, repetitions * depth, weight_OIHW[0, 0].numel())


def _norm(values: Tensor, norm: Norm, dim: int) -> Tensor:
    return values.abs().sum(dim) if norm == "L1" else values.square().sum(dim).sqrt()
