"""From a sensitivity analysis to a search of few parameters: layers of like sensitivity share a pruner.

The method, in full:

1. A layer's *sensitivity* is the mean top1 it costs, in points, over the grid of sparsities.
2. Convolutions that can be pruned one by one are put in order of sensitivity, and the order is cut into groups such
   that the sum of squared deviations from the groups' means is smallest: Fisher 1958 ("On grouping for maximum
   homogeneity", JASA 53), exact, by dynamic programming. The number of groups is the smallest that explains 90 % of
   the variance (Jenks' goodness of variance fit), at least three, so that a search has something to choose from.
3. Convolutions that a residual sum couples lose the same filters, so each set of them needs a pruner of its own
   (`group_dependency: Leader`). The least sensitive sets are taken, as many as there is room for in `MAX_PARAMETERS`.
   What is left out stays whole.
4. A pruner begins with the largest sparsity of the grid, from 0 up, at which none of its layers alone costs more than
   `max_drop` points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

from secateur.analysis.units import pruner_fields, schedule_document
from secateur.sensitivity_results import LayerSensitivity, Sensitivity

MIN_PARAMETERS, MAX_PARAMETERS = 3, 8
"""Of a search space: what a Gaussian process handles well within some dozen trials."""

_GOODNESS_OF_FIT = 0.9
_TRIALS_PER_PARAMETER = 8


@dataclass(frozen=True, kw_only=True)
class Group:
    """Layers that share a pruner, and so one parameter of the search."""

    name: str
    layers: tuple[str, ...]
    is_coupled: bool
    sensitivity: float
    """Mean of its layers', in points of top1."""
    sparsity: float
    """What the schedule begins with."""


def natural_breaks(values: Sequence[float], num_groups: int) -> tuple[int, ...]:
    """Cut ascending values into groups with the smallest sum of squared deviations from the groups' means.

    Fisher 1958, by dynamic programming in O(n^2 * num_groups); of equally good cuts, the one with the leftmost breaks.

    Args:
        values: Ascending.
        num_groups: 1 to ``len(values)``.

    Returns:
        ``num_groups + 1`` positions, from 0 to ``len(values)``; group i is ``values[breaks[i]:breaks[i + 1]]``.
    """
    n = len(values)
    best: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {(0, 0): (0.0, (0,))}
    for group in range(1, num_groups + 1):
        for end in range(group, n + 1):
            best[group, end] = min(
                (best[group - 1, start][0] + _scatter(values[start:end]), (*best[group - 1, start][1], end))
                for start in range(group - 1, end)
                if (group - 1, start) in best
            )
    return best[num_groups, n][1]


def _scatter(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values)


def choose_breaks(values: Sequence[float], num_groups: int | None = None) -> tuple[int, ...]:
    """Cut ascending values into `num_groups`, or into as few groups as explain 90 % of their variance (3 to 8)."""
    if num_groups is not None:
        return natural_breaks(values, min(num_groups, len(values)))
    fewest, most = (min(number, len(values)) for number in (MIN_PARAMETERS, MAX_PARAMETERS))
    total = _scatter(values) if values else 0.0
    for number in range(fewest, most):
        breaks = natural_breaks(values, number)
        within = math.fsum(_scatter(values[start:end]) for start, end in pairwise(breaks))
        if within <= (1 - _GOODNESS_OF_FIT) * total:
            return breaks
    return natural_breaks(values, most)


def group_layers(analysis: Sensitivity, num_groups: int | None = None, max_drop: float = 1.0) -> tuple[Group, ...]:
    """Group a network's layers by sensitivity, the least sensitive group first, coupled layers last.

    Args:
        analysis: Of the network.
        num_groups: Groups of single layers, 1 to 8; by default as many as the method says.
        max_drop: What one layer alone may cost, in points of top1, in the schedule as it begins.
    """
    top1 = analysis.unpruned.top1
    ranked = sorted(analysis.units, key=lambda unit: unit.cost(top1))  # stable: the network's order
    single = [unit for unit in ranked if len(unit.layers) == 1]
    coupled = [unit for unit in ranked if len(unit.layers) > 1]
    breaks = choose_breaks([unit.cost(top1) for unit in single], num_groups) if single else (0,)
    order = {unit.layers: position for position, unit in enumerate(analysis.units)}
    members = [sorted(single[start:end], key=lambda unit: order[unit.layers]) for start, end in pairwise(breaks)]
    groups = [_group(f"group_{number}", units, top1, max_drop) for number, units in enumerate(members, start=1)]
    room = MAX_PARAMETERS - len(groups)
    sums = [_group(f"coupled_{number}", [unit], top1, max_drop) for number, unit in enumerate(coupled[:room], start=1)]
    return (*groups, *sums)


def _group(name: str, units: Sequence[LayerSensitivity], top1: float, max_drop: float) -> Group:
    return Group(
        name=name,
        layers=tuple(layer for unit in units for layer in unit.layers),
        is_coupled=len(units[0].layers) > 1,
        sensitivity=math.fsum(unit.cost(top1) for unit in units) / len(units),
        sparsity=min(_tolerated(unit, top1 - max_drop) for unit in units),
    )


def _tolerated(unit: LayerSensitivity, least_top1: float) -> float:
    """Return the sparsity up to which every point of the grid keeps `least_top1`."""
    return max((p.sparsity for p in takewhile(lambda point: point.top1 >= least_top1, unit.points)), default=0.0)


def grouped_schedule(groups: Sequence[Group]) -> dict[str, Any]:
    """Return the compression schedule: a pruner for each group."""
    return schedule_document({g.name: pruner_fields(g.layers, g.sparsity, is_coupled=g.is_coupled) for g in groups})


def grouped_study(
    document: dict[str, Any], schedule: str, groups: Sequence[Group], max_sparsity: float
) -> dict[str, Any]:
    """Return the study: what the user said, and one parameter for each group.

    Args:
        document: The study so far.
        schedule: The schedule's file, from the study's folder.
        groups: At least one.
        max_sparsity: Up to which the parameters are searched: as far as was looked.
    """
    parameters = {f"{group.name}.desired_sparsity": {"min": 0.0, "max": max_sparsity} for group in groups}
    budget = {"trials": _TRIALS_PER_PARAMETER * len(groups), **document.get("budget", {})}
    return {
        **document,
        "schedule": schedule,
        "search": {**document["search"], "parameters": parameters},
        "budget": budget,
    }
