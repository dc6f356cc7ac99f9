"""How far top1 scatters from seed to seed: some networks are trained twice, to find out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, median

import numpy as np

from secateur.config import Study
from secateur.results import TrialRecord
from secateur.search.goal import Goal

_BY_DEFAULT = 4
_MIN_TRIALS = 32
"""A smaller study has no trials to spare for replicates, unless it asks for them."""
_MIN_DEGREES = 3
"""Degrees of freedom below which a variance says too little to be relied on."""


def top1_error(records: Iterable[TrialRecord]) -> float | None:
    """Return the standard error of one trial's top1, in points: the pooled standard deviation of replicates.

    Pooled over networks of which several trainings are finished; None, where these have fewer than three degrees of
    freedom, or no scatter at all.
    """
    trainings: defaultdict[str, list[float]] = defaultdict(list)
    for record in records:
        if record.is_usable and "top1" in record.metrics:
            trainings[record.replicate_of or record.label].append(record.metrics["top1"])
    squares = sum((x - fmean(top1s)) ** 2 for top1s in trainings.values() for x in top1s)
    degrees = sum(len(top1s) - 1 for top1s in trainings.values())
    return math.sqrt(squares / degrees) if degrees >= _MIN_DEGREES and squares > 0 else None


def next_replicate(study: Study, goal: Goal, records: Sequence[TrialRecord]) -> TrialRecord | None:
    """Return the trial to be trained once more, with another seed; None, where there are enough replicates.

    It is the first one that was not, of those whose top1 is in the upper half: how far a ruined network scatters does
    not matter.
    """
    if not goal.needs_top1:
        return None
    wanted = study.search.replicates
    if wanted is None:
        wanted = _BY_DEFAULT if study.budget.trials >= _MIN_TRIALS else 0
    replicated = {record.replicate_of for record in records if record.replicate_of is not None}
    if len(replicated) >= wanted:
        return None
    trained = [record for record in records if record.replicate_of is None and _is_trained(record)]
    middle = median(record.metrics["top1"] for record in trained) if trained else math.nan
    return next((r for r in trained if r.metrics["top1"] >= middle and r.label not in replicated), None)


def replicate_seed(study: Study, index: int) -> int:
    """Return the seed of training of a replicate: the study's and the trial's number make it."""
    return int(np.random.SeedSequence([study.search.seed, index]).generate_state(1)[0])


def _is_trained(record: TrialRecord) -> bool:
    has_top1 = record.is_usable and "top1" in record.metrics
    return has_top1 and record.compressed is not None and any(e.epoch >= 0 for e in record.compressed.epochs)
