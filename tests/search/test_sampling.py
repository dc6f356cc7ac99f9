"""Points by number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from secateur.config import ParameterValue
from secateur.search.sampling import random_points, sobol_point, sobol_points
from secateur.search.space import ChoiceParameter, FloatParameter, IntParameter, Space

SPACE = Space(
    (
        FloatParameter(name="a", low=-1.0, high=2.0),
        IntParameter(name="b", low=5, high=9),
        ChoiceParameter(name="c", values=("x", "y", "z")),
    )
)
UNIT = Space(tuple(FloatParameter(name=name, low=0.0, high=1.0) for name in "abc"))

Sampler = Callable[[Space, int], Iterator[dict[str, ParameterValue]]]
BOTH = pytest.mark.parametrize("sample", [sobol_points, random_points])


@BOTH
@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 200))
def test_points_are_in_the_space_and_repeatable(sample: Sampler, seed: int, n: int) -> None:
    points = list(islice(sample(SPACE, seed), n))
    assert all(point in SPACE for point in points)
    assert list(islice(sample(SPACE, seed), n)) == points


@BOTH
def test_points_differ_by_number_and_by_seed(sample: Sampler) -> None:
    points = [tuple(point.values()) for seed in range(3) for point in islice(sample(UNIT, seed), 20)]
    assert len(set(points)) == 60


def test_sobol_points_are_one_sequence() -> None:
    points = [list(sobol_point(UNIT, 3, index).values()) for index in range(16)]
    assert [list(point.values()) for point in islice(sobol_points(UNIT, 3), 16)] == points
    assert np.array(points) == pytest.approx(qmc.Sobol(3, scramble=True, rng=np.random.default_rng(3)).random(16))


def test_sobol_points_spread_evenly() -> None:
    sparse = {tuple(int(2 * u) for u in sobol_point(UNIT, 0, index).values()) for index in range(8)}
    assert len(sparse) == 8  # one in each octant
