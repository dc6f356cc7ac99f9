"""Steps in a series: found where they are, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.analysis.steps import Numbers, find_steps, weighted_mean

lengths = st.lists(st.integers(1, 6), min_size=1, max_size=6)


def stairs(lengths: list[int], rise: float) -> tuple[Numbers, tuple[int, ...]]:
    values = np.repeat(1 + rise * np.arange(len(lengths)), lengths)
    return values, (0, *np.cumsum(lengths).tolist())


@given(lengths=lengths, rise=st.floats(0.001, 1.0))
def test_stairs_without_noise_are_found_exactly(lengths: list[int], rise: float) -> None:
    values, bounds = stairs(lengths, rise)
    assert find_steps(values, np.zeros_like(values)) == bounds


@given(lengths=st.lists(st.integers(2, 6), min_size=1, max_size=5), seed=st.integers(0, 2**32 - 1))
def test_steps_of_many_errors_are_recovered(lengths: list[int], seed: int) -> None:
    error = 0.003
    values, bounds = stairs(lengths, 20 * error)
    noise = np.random.default_rng(seed).uniform(-error, error, len(values))
    assert find_steps(values + noise, np.full(len(values), error)) == bounds


@given(lengths=lengths, scale=st.floats(1e-6, 1e6), seed=st.integers(0, 2**32 - 1))
def test_scale_does_not_matter(lengths: list[int], scale: float, seed: int) -> None:
    values, _ = stairs(lengths, 0.02)
    errors = np.random.default_rng(seed).uniform(0.002, 0.02, len(values))
    assert find_steps(values * scale, errors * scale) == find_steps(values, errors)


def test_noise_alone_is_seldom_taken_for_a_step() -> None:
    rng = np.random.default_rng(0)
    errors = np.full(32, 0.005)
    false = sum(len(find_steps(1 + rng.normal(0, errors), errors)) > 2 for _ in range(200))
    assert false <= 0.08 * 200


def test_a_point_counts_as_much_as_it_is_precise() -> None:
    values = np.array([1.0, 1.0, 1.1, 1.0, 1.0])
    assert find_steps(values, np.full(5, 0.001)) == (0, 2, 3, 5)
    assert find_steps(values, np.array([0.001, 0.001, 0.1, 0.001, 0.001])) == (0, 5)
    mean, error = weighted_mean(np.array([1.0, 2.0]), np.array([1.0, 0.5]))
    assert mean == pytest.approx((1 + 4 * 2) / 5)
    assert error == pytest.approx(5**-0.5)


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [3.0, 3.0, 3.0]], ids=str)
def test_what_is_constant_is_one_step(values: list[float]) -> None:
    assert find_steps(np.array(values), np.zeros(len(values))) == (0, len(values))
