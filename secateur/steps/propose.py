"""Propose the next trials. Needs Ax, where the study asks for it."""

from __future__ import annotations

import time
from collections.abc import Mapping

from secateur import progress
from secateur.admissibility import schedule_of
from secateur.config import ParameterValue, Study
from secateur.errors import StudyError
from secateur.parameters import base_values, complete_point, footprints_of
from secateur.results import StudyResults, TrialRecord
from secateur.search.proposer import propose as choose
from secateur.search.proposer import snapshot
from secateur.search.repeats import KnownNetworks
from secateur.steps.record import proposed
from secateur.store import StudyFiles
from secateur.turns import working


@working()
def propose(files: StudyFiles, study: Study, results: StudyResults, count: int) -> list[TrialRecord]:
    """Choose up to `count` trials; store the optimiser's state first, then their records.

    Returns:
        As many as asked for; fewer only where a grid ends, or no network of the space is new.

    Raises:
        SearchError: A constraint refers to what is not known of a baseline, or Ax is not installed.
    """
    started, schedule = time.perf_counter(), schedule_of(study)
    identify = footprints_of(study, schedule)
    baselines = results.baseline_metrics
    proposal = choose(study, base_values(study, schedule), results.trials, baselines, count, identify)
    if proposal.optimiser_state is not None:
        files.write_optimiser(proposal.optimiser_state)
    if len(proposal.points) < count:
        num_trials = len(results.trials) + len(proposal.points)
        progress.message(f"{study.name}: {num_trials} trials hold every network that was found in the search space.")
    seconds = (time.perf_counter() - started) / max(len(proposal.points), 1)
    records = [
        proposed(
            study.name,
            str(point.index),
            method=point.method,
            parameters=dict(point.parameters),
            seed=point.seed,
            seconds=seconds,
        ).model_copy(
            update={
                "num_repeats": point.num_repeats,
                "replicate_of": point.replicate_of,
                "remark": point.remark,
            }
        )
        for point in proposal.points
    ]
    return [_kept(files, record) for record in records]


def _kept(files: StudyFiles, record: TrialRecord) -> TrialRecord:
    """Write a new trial down, under the next number that is free: a person may have queued a candidate meanwhile."""
    while not files.create_record(record):
        earlier = files.read_record(record.label)
        if (earlier.method, earlier.parameters) == (record.method, record.parameters):
            return earlier  # an attempt before this one has written it
        record = record.model_copy(update={"label": str(record.index + 1)})
    return record


@working()
def queue(files: StudyFiles, study: Study, values: Mapping[str, ParameterValue]) -> TrialRecord:
    """Write down a candidate of a person's own, for the study's sweep to run next.

    Args:
        files: Of the study.
        study: As it was begun.
        values: Some of its parameters; the others are as the study itself says.

    Raises:
        StudyError: A name or a value is wrong, or the network is that of an earlier trial.
    """
    schedule = schedule_of(study)
    parameters = complete_point(study, schedule, values)
    known = KnownNetworks(footprints_of(study, schedule), trials := files.trials())
    if (label := known.label_of(parameters)) is not None:
        raise StudyError(f"trial {label} of {study.name!r} has this network already: 'secateur status {study.name}'.")
    number = max((trial.index for trial in trials), default=-1) + 1
    record = proposed(study.name, str(number), method="manual", parameters=parameters, seed=study.search.seed)
    return _kept(files, record.model_copy(update={"remark": "Queued by a person: secateur try."}))


@working()
def observe(files: StudyFiles, study: Study, results: StudyResults) -> None:
    """Store what the optimiser knows after a batch; the records alone are enough to go on from."""
    values = base_values(study, schedule_of(study))
    state = snapshot(study, values, results.trials, results.baseline_metrics)
    if state is not None:
        files.write_optimiser(state)
