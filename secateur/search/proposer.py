"""The next points of a study, by whatever method it names."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from secateur.config import ParameterValue, Search, Study
from secateur.errors import SearchError
from secateur.results import TrialRecord
from secateur.search.goal import Goal
from secateur.search.quiet import quiet
from secateur.search.sampling import random_point, sobol_point
from secateur.search.space import Space, grid_points

if TYPE_CHECKING:
    from secateur.search.ax_optimiser import AxOptimiser


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trial to be made."""

    index: int
    """The trial's number."""
    method: str
    """What proposed it: grid, random, sobol, bayes, or ``sobol (bayes failed: ...)``."""
    parameters: Mapping[str, ParameterValue]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The next trials of a study."""

    points: tuple[Point, ...]
    """As many as asked for; fewer only where a grid ends."""
    optimiser_state: dict[str, Any] | None
    """What Ax knows, these points included, as `ax.Client.load_from_json_file` reads it; None if Ax was not asked."""


def propose(
    study: Study,
    base_values: Mapping[str, ParameterValue],
    records: Sequence[TrialRecord],
    baselines: Mapping[str, Mapping[str, float]],
    n: int,
) -> Proposal:
    """Choose the next `n` points.

    They follow from the study and the records alone: a search that was interrupted goes on as if it had not been.

    Args:
        study: What is searched.
        base_values: What the compression schedule itself sets, by parameter name.
        records: All trials so far, unfinished ones (which count as pending) included.
        baselines: As `StudyResults.baseline_metrics`.
        n: How many.

    Raises:
        StudyError: The search space does not fit the schedule.
        SearchError: A constraint refers to what is not known of a baseline, or Ax is not installed.
    """
    search, space = study.search, Space.from_search(study.search, base_values)
    first = max((record.index for record in records), default=-1) + 1
    if search.method == "bayes":
        return _bayes(study, space, records, Goal.from_search(search, baselines), range(first, first + n))
    if search.method == "random":
        points = [random_point(space, search.seed, index) for index in range(first, first + n)]
    else:
        tried = {_key(record.parameters) for record in records}
        points = list(itertools.islice((p for p in grid_points(space) if _key(p) not in tried), n))
    return Proposal(
        points=tuple(Point(index=first + i, method=search.method, parameters=p) for i, p in enumerate(points)),
        optimiser_state=None,
    )


def snapshot(
    study: Study,
    base_values: Mapping[str, ParameterValue],
    records: Sequence[TrialRecord],
    baselines: Mapping[str, Mapping[str, float]],
) -> dict[str, Any] | None:
    """Return what Ax knows when it is told these records; None while it has nothing to propose from.

    Raises:
        StudyError, SearchError: As `propose`.
    """
    search, space = study.search, Space.from_search(study.search, base_values)
    if search.method != "bayes" or len(records) < _num_initial(search, space):
        return None
    return _optimiser(study, space, Goal.from_search(search, baselines), records, ()).to_json()


def _num_initial(search: Search, space: Space) -> int:
    return search.initial_trials or max(5, 2 * len(space.parameters))


def _bayes(study: Study, space: Space, records: Sequence[TrialRecord], goal: Goal, indices: range) -> Proposal:
    """Propose quasi-random points first, then the model's; where it finds too few, quasi-random ones again."""
    num_initial = _num_initial(study.search, space)
    num_known = sum(goal.outcome(record) is not None for record in records)
    if num_known < max(1, num_initial // 2):  # a first batch may be large, and most of it may fail
        num_initial = indices.stop
    points = [_sobol(study, space, index) for index in indices if index < num_initial]
    if len(points) == len(indices):
        return Proposal(points=tuple(points), optimiser_state=None)

    optimiser = _optimiser(study, space, goal, records, points)
    reason = "bayes repeats itself"
    try:
        found = optimiser.ask(len(indices) - len(points))
    except SearchError as exc:
        found, reason = [], f"bayes failed: {str(exc).splitlines()[0][:80]}"
    modelled = zip(indices[len(points) :], found, strict=False)
    points += [Point(index=index, method="bayes", parameters=parameters) for index, parameters in modelled]
    fillers = [_sobol(study, space, index, f"sobol ({reason})") for index in indices[len(points) :]]
    for filler in fillers:
        optimiser.tell_pending(filler.parameters)
    return Proposal(points=(*points, *fillers), optimiser_state=optimiser.to_json())


def _optimiser(
    study: Study, space: Space, goal: Goal, records: Sequence[TrialRecord], pending: Sequence[Point]
) -> AxOptimiser:
    """Build the optimiser from the records, its seed from the study's and their number."""
    # By name, and only here: Ax takes seconds to import, and other methods need it not even to be installed.
    try:
        with quiet():
            ax_optimiser = importlib.import_module("secateur.search.ax_optimiser")
    except ModuleNotFoundError as exc:
        raise SearchError(
            f"search.method 'bayes' needs Ax ({exc}): install secateur[search], or use method 'random'."
        ) from exc
    seed = int(np.random.SeedSequence([study.search.seed, len(records)]).generate_state(1)[0])
    in_order = sorted(records, key=lambda record: record.index)
    optimiser: AxOptimiser = ax_optimiser.AxOptimiser(study.name, space, goal, seed, in_order)
    for point in pending:
        optimiser.tell_pending(point.parameters)
    return optimiser


def _sobol(study: Study, space: Space, index: int, method: str = "sobol") -> Point:
    return Point(index=index, method=method, parameters=sobol_point(space, study.search.seed, index))


def _key(parameters: Mapping[str, ParameterValue]) -> frozenset[tuple[str, ParameterValue]]:
    return frozenset(parameters.items())
