"""Shapes: O filters, I input channels, H x W kernel."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.methods.ranking import Norm, Side, count_removed, keep_mask, structure_norms, without_smallest

SPARSITIES = st.floats(0, 1, exclude_max=True)
COUNTS = st.integers(1, 512)
SIDES: st.SearchStrategy[Side] = st.sampled_from(["filters", "channels"])
NORMS: st.SearchStrategy[Norm] = st.sampled_from(["L1", "L2"])


@pytest.mark.parametrize(
    ("num_structures", "sparsity", "expected"),
    [
        (16, 0.0, 0),
        (16, 0.0624, 0),
        (16, 0.0625, 1),
        (16, 0.5, 8),
        (16, 0.99, 15),
        (64, 0.999, 63),
        (100, 0.29, 28),  # 0.29 * 100 is 28.999999999999996 in double precision
        (1, 0.99, 0),
    ],
)
def test_how_many_go(num_structures: int, sparsity: float, expected: int) -> None:
    assert count_removed(num_structures, sparsity) == expected


@given(COUNTS, SPARSITIES)
def test_the_count_is_the_floor_of_the_product_and_one_stays(num_structures: int, sparsity: float) -> None:
    count = count_removed(num_structures, sparsity)
    assert 0 <= count < num_structures
    assert count == min(math.floor(sparsity * num_structures), num_structures - 1)


@given(COUNTS, SPARSITIES, SPARSITIES)
def test_more_sparsity_never_removes_less(num_structures: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert count_removed(num_structures, low) <= count_removed(num_structures, high)


@given(COUNTS, SPARSITIES)
def test_a_larger_layer_never_loses_fewer(num_structures: int, sparsity: float) -> None:
    assert count_removed(num_structures, sparsity) <= count_removed(num_structures + 1, sparsity)


def test_filters_are_ranked_by_their_norm() -> None:
    weight_OIHW = torch.tensor([[3.0, 3.0], [5.0, 0.0], [1.0, -1.0]]).reshape(3, 2, 1, 1)
    assert structure_norms(weight_OIHW, "filters", "L1").tolist() == [6, 5, 2]
    assert structure_norms(weight_OIHW, "filters", "L2").square().tolist() == pytest.approx([18, 25, 2])
    assert structure_norms(weight_OIHW, "channels", "L1").tolist() == [9, 4]
    assert structure_norms(weight_OIHW[:, :, 0, 0], "channels", "L1").tolist() == [9, 4]


def test_of_equal_norms_the_first_go() -> None:
    assert keep_mask(torch.ones(4, 2, 1, 1), "filters", "L2", 0.5).tolist() == [False, False, True, True]


@given(st.integers(1, 9), st.integers(1, 5), SIDES, NORMS, SPARSITIES, st.integers(0, 99))
def test_what_is_kept_outweighs_what_goes(
    num_filters: int, in_channels: int, side: Side, norm: Norm, sparsity: float, seed: int
) -> None:
    weight_OIHW = torch.randn(num_filters, in_channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    mask = keep_mask(weight_OIHW, side, norm, sparsity)
    assert len(mask) == (num_filters if side == "filters" else in_channels)
    assert int((~mask).sum()) == count_removed(len(mask), sparsity)
    dims = (1, 2, 3) if side == "filters" else (0, 2, 3)
    norms = weight_OIHW.double().norm(p=1 if norm == "L1" else 2, dim=dims)
    assert not (~mask).any() or norms[~mask].max() <= norms[mask].min()


def test_zeros_are_gone_already() -> None:
    """Of two zeros one is asked for: both are masked, as Distiller does. Ties of other numbers stay."""
    assert without_smallest(torch.tensor([0.0, 3.0, 0.0, 2.0]), 1).tolist() == [False, True, False, True]
    assert without_smallest(torch.tensor([0.0, 3.0, 3.0, 3.0]), 2).tolist() == [False, False, True, True]
    assert without_smallest(torch.zeros(3), 0).all()
