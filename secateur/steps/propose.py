"""Propose the next trials. Needs Ax, where the study asks for it."""

from __future__ import annotations

import time

from secateur.candidate import schedule_of
from secateur.config import ParameterValue, Study
from secateur.results import StudyResults, TrialRecord
from secateur.search.proposer import propose as choose
from secateur.search.proposer import snapshot
from secateur.steps.record import proposed
from secateur.store import StudyFiles
from secateur.turns import working


@working()
def propose(files: StudyFiles, study: Study, results: StudyResults, count: int) -> list[TrialRecord]:
    """Choose up to `count` trials; store the optimiser's state first, then their records.

    Returns:
        As many as asked for; fewer only where a grid ends.

    Raises:
        SearchError: A constraint refers to what is not known of a baseline, or Ax is not installed.
    """
    started = time.perf_counter()
    proposal = choose(study, _base_values(study), results.trials, results.baseline_metrics, count)
    if proposal.optimiser_state is not None:
        files.write_optimiser(proposal.optimiser_state)
    seconds = (time.perf_counter() - started) / max(len(proposal.points), 1)
    records = [
        proposed(
            study.name,
            str(point.index),
            method=point.method,
            parameters=dict(point.parameters),
            seed=study.search.seed,
            seconds=seconds,
        )
        for point in proposal.points
    ]
    for record in records:
        files.write_record(record)
    return records


@working()
def observe(files: StudyFiles, study: Study, results: StudyResults) -> None:
    """Store what the optimiser knows after a batch; the records alone are enough to go on from."""
    state = snapshot(study, _base_values(study), results.trials, results.baseline_metrics)
    if state is not None:
        files.write_optimiser(state)


def _base_values(study: Study) -> dict[str, ParameterValue]:
    schedule = schedule_of(study)
    return {name: schedule.base_value(name) for name in study.search.parameters}
