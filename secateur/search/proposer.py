"""The next points of a study, by whatever method it names."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from secateur.config import ParameterValue, Search, Study
from secateur.errors import SearchError
from secateur.results import TrialRecord
from secateur.search.goal import Goal
from secateur.search.quiet import quiet
from secateur.search.repeats import Drawn, Identify, KnownNetworks
from secateur.search.replicates import next_replicate, replicate_seed, top1_error
from secateur.search.sampling import random_points, sobol_points
from secateur.search.space import Space, grid_points

if TYPE_CHECKING:
    from secateur.search.ax_optimiser import AxOptimiser

_NUM_ASKS = 2
"""How often Ax is asked before its repeats are replaced by what is near them: each costs as long as the first."""
_MAX_REASON = 160
"""Characters of an error of Ax that a record keeps: it may say pages."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One trial to be made."""

    index: int
    """The trial's number."""
    method: str
    """What proposed it: grid, random, own, sobol, bayes, replicate."""
    parameters: Mapping[str, ParameterValue]
    seed: int
    """Of training."""
    num_repeats: int = 0
    """Points that were passed over for this one, since their networks were known."""
    replicate_of: str | None = None
    """Label of the trial that is trained again."""
    remark: str | None = None
    """Why another method than the study's chose it."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """The next trials of a study."""

    points: tuple[Point, ...]
    """As many as asked for; fewer only where a grid ends, or no network of the space is new."""
    optimiser_state: dict[str, Any] | None
    """What Ax knows, these points included, as `ax.Client.load_from_json_file` reads it; None if Ax was not asked."""


def by_value(parameters: Mapping[str, ParameterValue]) -> frozenset[tuple[str, ParameterValue]]:
    """Identify a network by the values of its parameters, where nothing better is known."""
    return frozenset(parameters.items())


def propose(
    study: Study,
    base_values: Mapping[str, ParameterValue | None],
    records: Sequence[TrialRecord],
    baselines: Mapping[str, Mapping[str, float]],
    n: int,
    identify: Identify = by_value,
) -> Proposal:
    """Choose the next `n` points, all of networks that no trial had yet, but for deliberate replicates.

    They follow from the study and the records alone: a search that was interrupted goes on as if it had not been.

    Args:
        study: What is searched.
        base_values: What the study itself says, by parameter name.
        records: All trials so far, unfinished ones (which count as pending) included.
        baselines: As `StudyResults.baseline_metrics`.
        n: How many.
        identify: Tells which network remains at a point.

    Raises:
        StudyError: The search space does not fit the schedule.
        SearchError: A constraint refers to what is not known of a baseline, or Ax is not installed.
    """
    search, space = study.search, Space.from_search(study.search, base_values)
    batch = _Batch(study, KnownNetworks(identify, records), _first_index(records), n)
    if search.method == "bayes":
        own, is_early = _expert_point(space, base_values), batch.next_index < _num_initial(search, space)
        if own is not None and is_early and batch.num_missing and batch.known.label_of(own) is None:
            batch.add("own", own)
        return _bayes(batch, space, records, _goal(search, baselines, records))
    sequence = random_points(space, search.seed) if search.method == "random" else grid_points(space)
    batch.draw(search.method, sequence)
    return Proposal(points=tuple(batch.points), optimiser_state=None)


def snapshot(
    study: Study,
    base_values: Mapping[str, ParameterValue | None],
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
    return _optimiser(study, space, _goal(search, baselines, records), records, ()).to_json()


class _Batch:
    """The points of one proposal, as they are found."""

    def __init__(self, study: Study, known: KnownNetworks, first: int, n: int) -> None:
        self.study = study
        self.known = known
        self.points: list[Point] = []
        self._indices = range(first, first + n)

    @property
    def num_missing(self) -> int:
        return len(self._indices) - len(self.points)

    @property
    def next_index(self) -> int:
        return self._indices.start + len(self.points)

    def add(self, method: str, parameters: Mapping[str, ParameterValue], **fields: Any) -> Point:
        """Take a point in, and note its network."""
        fields = {"seed": self.study.search.seed, **fields}
        point = Point(index=self.next_index, method=method, parameters=parameters, **fields)
        self.points.append(point)
        self.known.add(parameters, str(point.index))
        return point

    def draw(
        self, method: str, sequence: Iterator[Mapping[str, ParameterValue]], n: int | None = None, **fields: Any
    ) -> list[Point]:
        """Take in the next `n` new networks of a sequence, by default all that are missing."""
        n = self.num_missing if n is None else n
        return [self._take(method, drawn, fields) for drawn in itertools.islice(self.known.new_among(sequence), n)]

    def _take(self, method: str, drawn: Drawn, fields: Mapping[str, Any]) -> Point:
        return self.add(method, drawn.parameters, num_repeats=drawn.num_repeats, **fields)


def _bayes(batch: _Batch, space: Space, records: Sequence[TrialRecord], goal: Goal) -> Proposal:
    """Propose quasi-random points first, then the model's; where it finds too few, quasi-random ones again."""
    study = batch.study
    num_initial = _num_initial(study.search, space)
    num_known = sum(record.is_trained and goal.outcome(record) is not None for record in records)
    num_quasi_random = min(max(num_initial - batch.next_index, 0), batch.num_missing)
    if num_known < max(1, num_initial // 2):  # a first batch may be large, and most of it may fail
        num_quasi_random = batch.num_missing
    sequence = sobol_points(space, study.search.seed)
    batch.draw("sobol", sequence, num_quasi_random)
    if len(batch.points) < num_quasi_random or not batch.num_missing:
        return Proposal(points=tuple(batch.points), optimiser_state=None)

    if (again := next_replicate(study, goal, records)) is not None:
        seed = replicate_seed(study, batch.next_index)
        batch.add("replicate", again.parameters, replicate_of=again.label, seed=seed)
    optimiser = _optimiser(study, space, goal, records, batch.points)
    remark = _ask(optimiser, batch, space, {record.label: record for record in records})
    for point in batch.draw("sobol", sobol_points(space, study.search.seed), remark=remark):
        optimiser.tell_pending(point.parameters)
    return Proposal(points=tuple(batch.points), optimiser_state=optimiser.to_json())


def _expert_point(space: Space, base_values: Mapping[str, ParameterValue | None]) -> dict[str, ParameterValue] | None:
    """Return what an expert has written into the study itself; None where the space does not hold it.

    Unless a parameter is fixed to something else it is the network off the shelf: then nothing is trained.
    """
    values = {p.name: value for p in space.parameters if (value := base_values[p.name]) is not None}
    return own if (own := space.with_fixed(values)) in space else None


def _ask(optimiser: AxOptimiser, batch: _Batch, space: Space, records: Mapping[str, TrialRecord]) -> str:
    """Fill a batch with what the model proposes, as far as these are new networks, or else with what is near them.

    Returns:
        Why there may be too few.
    """
    repeats: list[dict[str, ParameterValue]] = []
    remark = "Ax proposed fewer new networks than asked for."
    for num_asked in range(_NUM_ASKS):
        try:
            found = optimiser.ask(batch.num_missing) if batch.num_missing else []
        except SearchError as exc:
            remark = f"Ax failed: {str(exc).splitlines()[0][:_MAX_REASON]}"
            break
        repeats = []
        for parameters in found:
            label = batch.known.label_of(parameters)
            if label is None:
                batch.add("bayes", parameters, num_repeats=num_asked)
                continue
            repeats.append(parameters)
            if label in records:
                optimiser.tell_repeat(parameters, records[label])
    for parameters in repeats[: batch.num_missing]:
        if (near := batch.known.nearest_new(space, parameters)) is not None:
            batch.add("bayes", near, num_repeats=_NUM_ASKS)
            optimiser.tell_pending(near)
    return remark


def _goal(search: Search, baselines: Mapping[str, Mapping[str, float]], records: Sequence[TrialRecord]) -> Goal:
    return replace(Goal.from_search(search, baselines), top1_error=top1_error(records))


def _first_index(records: Sequence[TrialRecord]) -> int:
    return max((record.index for record in records), default=-1) + 1


def _num_initial(search: Search, space: Space) -> int:
    return search.initial_trials or max(5, 2 * len(space.parameters))


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
