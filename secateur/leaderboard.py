"""Which trials are best: the Pareto front among those that keep the constraints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from secateur.config import Constraint
from secateur.results import UNPRUNED, StudyResults, TrialRecord, metrics_of

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trial and its rank."""

    record: TrialRecord
    metrics: Mapping[str, float]
    is_feasible: bool
    """It was trained to the end and ended well, every objective is known, every constraint kept."""
    is_on_front: bool
    """Feasible, and no feasible trial is better in one objective and as good in all others."""


def pareto_front(points: Sequence[Mapping[str, float]], objectives: Mapping[str, Direction]) -> list[int]:
    """Return the indices of the points that no other point dominates, ascending.

    A point dominates another if it is as good in all objectives and better in one. Of equal points the first stays;
    a point that lacks an objective, or has NaN there, is left out. In lexicographic order nothing is dominated by what
    follows it, so each point is compared to the front so far alone (Kung et al. 1975).

    Args:
        points: Metrics, by name.
        objectives: Metric -> direction; one or several.
    """
    costs = {i: cost for i, point in enumerate(points) if (cost := _cost(point, objectives)) is not None}
    front: list[int] = []
    for i in sorted(costs, key=lambda i: costs[i]):  # stable: equal points keep their order
        if not any(all(a <= b for a, b in zip(costs[j], costs[i], strict=True)) for j in front):
            front.append(i)
    return sorted(front)


def is_feasible(
    metrics: Mapping[str, float], constraints: Iterable[Constraint], baselines: Mapping[str, Mapping[str, float]]
) -> bool:
    """Tell whether all constraints hold; one whose baseline is not known does not.

    Args:
        metrics: Of one trial, by name.
        constraints: Bounds on them.
        baselines: As `StudyResults.baseline_metrics`.
    """
    try:
        return all(constraint.holds(metrics, baselines) for constraint in constraints)
    except KeyError:
        return False


def leaderboard(results: StudyResults) -> list[Row]:
    """Rank all trials of a study.

    Returns:
        The front first, then the other feasible trials, then what breaks a constraint, each part from best to worst
        in the first objective; at the end, by number, trials that failed, are not finished or lack an objective.
    """
    objectives: dict[str, Direction] = results.study["search"]["objectives"]
    constraints = [Constraint.parse(text) for text in results.study["search"]["constraints"]]
    baselines = results.baseline_metrics
    metrics = [metrics_of(record, results.baselines.get(UNPRUNED)) for record in results.trials]
    feasible = [
        record.is_usable
        and record.is_trained
        and _cost(m, objectives) is not None
        and is_feasible(m, constraints, baselines)
        for record, m in zip(results.trials, metrics, strict=True)
    ]
    front = pareto_front([m if ok else {} for m, ok in zip(metrics, feasible, strict=True)], objectives)
    rows = [
        Row(record=record, metrics=metrics[i], is_feasible=feasible[i], is_on_front=i in front)
        for i, record in enumerate(results.trials)
    ]
    return sorted(rows, key=lambda row: _rank(row, objectives))


def untested(results: StudyResults) -> list[str]:
    """Return the labels of finalists and baselines that were not yet evaluated on test data."""
    finalists = [row.record for row in leaderboard(results) if row.is_on_front]
    records = [*finalists, *results.baselines.values()]
    return [record.label for record in records if record.test is None and record.compressed is not None]


def _rank(row: Row, objectives: Mapping[str, Direction]) -> tuple[bool, bool, bool, tuple[float, ...], int]:
    cost = _cost(row.metrics, objectives) if row.record.is_usable else None
    return not row.is_on_front, not row.is_feasible, cost is None, cost or (), row.record.index


def _cost(metrics: Mapping[str, float], objectives: Mapping[str, Direction]) -> tuple[float, ...] | None:
    """Return the objectives in order, signed so that less is better; None if one is absent or NaN."""
    values = tuple(
        metrics.get(name, math.nan) * (1 if direction == "minimize" else -1) for name, direction in objectives.items()
    )
    return None if any(map(math.isnan, values)) else values
