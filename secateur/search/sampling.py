"""Points by number: the same seed and number give the same point, however often a search was interrupted."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from secateur.config import ParameterValue
from secateur.search.space import Space


def sobol_point(space: Space, seed: int, index: int) -> dict[str, ParameterValue]:
    """Return point `index` (from 0) of the space's scrambled Sobol sequence (Owen 1998)."""
    sequence = qmc.Sobol(len(space.parameters), scramble=True, rng=np.random.default_rng(seed))
    if index > 0:  # scipy cannot skip none
        sequence.fast_forward(index)
    return space.from_unit(sequence.random(1)[0].tolist())


def random_point(space: Space, seed: int, index: int) -> dict[str, ParameterValue]:
    """Return uniformly random point `index` (from 0)."""
    return space.from_unit(np.random.default_rng([seed, index]).random(len(space.parameters)).tolist())
