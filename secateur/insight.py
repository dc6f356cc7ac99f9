"""What the optimiser's model of a study says: which parameters matter, and what it expects where nothing was tried."""

from __future__ import annotations

from secateur.results import Record


class Importance(Record):
    """Sobol indices of one parameter and one metric: shares of the metric's variance over the search space."""

    first: float
    """What the parameter explains alone."""
    total: float
    """What it explains together with others; at least about as much as alone."""


class Slice(Record):
    """What the model expects along one parameter, the others as in the best trial."""

    parameter: str
    metric: str
    xs: tuple[float, ...]
    means: tuple[float, ...]
    standard_errors: tuple[float, ...]


class Contour(Record):
    """What the model expects along two parameters, the others as in the best trial."""

    parameters: tuple[str, str]
    """To the right, and upwards."""
    metric: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    means: tuple[tuple[float, ...], ...]
    """A row for each y."""


class Insight(Record):
    """What is to be learned from a Gaussian process for each metric."""

    num_trials: int
    """That it was fitted to."""
    num_modelled: int = 0
    """Of which those are a sample, at even distances; as many, unless there are very many."""
    importance: dict[str, dict[str, Importance]]
    """Metric -> parameter -> indices, the most important parameter first."""
    slices: tuple[Slice, ...]
    contours: tuple[Contour, ...]
    """Of each metric, along the two parameters that matter most."""


class NoInsight(Record):
    """There is no model."""

    reason: str
    """A sentence."""
