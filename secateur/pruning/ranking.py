"""Rank filters and channels, and say how many go (Distiller's rules, SPEC section 4.1)."""

from __future__ import annotations

import math
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


def rank_structures(weight: Tensor, side: Side, norm: Norm) -> Tensor:
    """Return indices of filters or channels from least to most important (Li et al. 2017, sec. 3.1).

    Args:
        weight: `num_filters x in_channels x kH x kW`, or `out_features x in_features`.
        side: Rank along dimension 0 (filters) or 1 (channels).
        norm: Sum of absolute values (L1), or root of the sum of squares (L2).

    Returns:
        An int64 tensor; equal norms keep their order. Summed in double precision, so that the order does not depend
        on how a machine adds up.
    """
    rows = weight.detach().transpose(0, 0 if side == "filters" else 1).flatten(1).double()
    norms = rows.abs().sum(1) if norm == "L1" else rows.square().sum(1)
    return norms.argsort(stable=True)


def keep_mask(weight: Tensor, side: Side, norm: Norm, desired_sparsity: float) -> Tensor:
    """Return a bool mask over filters or channels, True = keep.

    Exactly `count_removed` go. (Distiller removes every structure that ties with the last one to go; such ties do
    not occur in trained weights.)
    """
    ranking = rank_structures(weight, side, norm)
    mask = torch.ones(len(ranking), dtype=torch.bool, device=weight.device)
    mask[ranking[: count_removed(len(ranking), desired_sparsity)]] = False
    return mask
