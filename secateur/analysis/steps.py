"""Where does a series jump? Means that are constant between changes, when the errors are known."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

_FALSE_ALARMS = 0.05
"""How often a series that is constant may be cut."""
_RESOLUTION = 1e-9
"""Least standard error, relative to the largest value: that two timings were equal does not make them exact."""

Numbers = npt.NDArray[np.float64]


def find_steps(values: Numbers, standard_errors: Numbers) -> tuple[int, ...]:
    """Cut a series of `n` measurements into steps of constant mean.

    Of all ways to cut it, the one with the least sum of squared standardised residuals, each change costing what a
    likelihood ratio test of one shift must exceed (Hawkins 1977, "Testing a sequence of observations for a shift in
    location", variances known): the quantile of chi squared with one degree of freedom at 5 %, shared by the ``n - 1``
    places (Bonferroni). The sum makes optimal partitioning exact (Jackson et al. 2005, "An algorithm for optimal
    partitioning of data on an interval"). Values and errors of another scale give the same steps.

    Args:
        values: `n`, finite, at least one.
        standard_errors: `n`, not negative.

    Returns:
        Ascending bounds from 0 to `n`: step i holds ``values[bounds[i]:bounds[i + 1]]``.
    """
    n = len(values)
    precisions = _precisions(values, standard_errors)
    price = NormalDist().inv_cdf(1 - _FALSE_ALARMS / max(n - 1, 1) / 2) ** 2
    best: list[tuple[float, tuple[int, ...]]] = [(-price, (0,))]
    for end in range(1, n + 1):
        ways = (
            (
                best[start][0] + price + _misfit(values[start:end], precisions[start:end]),
                (*best[start][1], end),
            )
            for start in range(end)
        )
        best.append(min(ways))
    return best[n][1]


def weighted_mean(values: Numbers, standard_errors: Numbers) -> tuple[float, float]:
    """Return the mean, each value weighted by its precision, and the mean's standard error."""
    precisions = _precisions(values, standard_errors)
    return float(np.average(values, weights=precisions)), float(precisions.sum() ** -0.5)


def _precisions(values: Numbers, standard_errors: Numbers) -> Numbers:
    least = _RESOLUTION * float(np.abs(values).max())
    precisions: Numbers = np.maximum(standard_errors, least or 1.0) ** -2.0
    return precisions


def _misfit(values: Numbers, precisions: Numbers) -> float:
    """Return the sum of squared residuals from the weighted mean, each in units of its variance."""
    residuals = values - (precisions @ values) / precisions.sum()
    return float(precisions @ (residuals * residuals))
