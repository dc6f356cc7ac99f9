"""Endless sequences of points, the same from the same seed, however often a search was interrupted."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from scipy.stats import qmc

from secateur.config import ParameterValue
from secateur.search.space import Space

_CHUNK = 64
"""Points that are computed at once: a power of two, as Sobol's sequence likes it."""


def sobol_points(space: Space, seed: int, start: int = 0) -> Iterator[dict[str, ParameterValue]]:
    """Yield the points of the space's scrambled Sobol sequence (Owen 1998), from number `start` on."""
    sequence = qmc.Sobol(len(space.parameters), scramble=True, rng=np.random.default_rng(seed))
    if start > 0:  # scipy cannot skip none
        sequence.fast_forward(start)
    while True:
        yield from map(space.from_unit, sequence.random(_CHUNK).tolist())


def sobol_point(space: Space, seed: int, index: int) -> dict[str, ParameterValue]:
    """Return point `index` (from 0) of `sobol_points`."""
    return next(sobol_points(space, seed, index))


def random_points(space: Space, seed: int) -> Iterator[dict[str, ParameterValue]]:
    """Yield uniformly random points."""
    for index in itertools.count():
        yield space.from_unit(np.random.default_rng([seed, index]).random(len(space.parameters)).tolist())
