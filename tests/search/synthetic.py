"""A search whose answers are known: two numbers, the more pruned the faster and the worse."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from secateur.config import ParameterValue, Study
from secateur.leaderboard import leaderboard
from secateur.results import TrialRecord
from secateur.search.proposer import Point, propose
from tests.factories import make_baselines, make_record, make_results, make_study

PARAMETERS: dict[str, dict[str, Any]] = {"p.a": {"min": 0.0, "max": 1.0}, "p.b": {"min": 0.0, "max": 1.0}}
BASE_VALUES: dict[str, ParameterValue] = {"p.a": 1.5, "p.b": 0.5}
"""Outside the space, so that no point is the study's own."""
BASELINES = make_results([]).baseline_metrics
"""top1 is 90.1 unpruned."""


def make_search_study(**search: Any) -> Study:
    """Return a study over `PARAMETERS`; `search` are fields of `Search`."""
    fields = make_study(parameters=PARAMETERS)
    return Study.model_validate({**fields, "search": {**fields["search"], **search}})


def evaluate(point: Point) -> TrialRecord:
    """Return the finished record: "p.a" is a good bargain, "p.b" a bad one."""
    a, b = (float(point.parameters[name]) for name in PARAMETERS)
    return make_record(
        point.index,
        parameters=point.parameters,
        method=point.method,
        seed=point.seed,
        replicate_of=point.replicate_of,
        latency_ratio=1 - 0.6 * a - 0.2 * b,
        top1=90.5 - 4 * a**3 - 6 * b,
    )


def pending(point: Point) -> TrialRecord:
    """Return the record of a trial that has just been proposed."""
    return make_record(
        point.index,
        parameters=point.parameters,
        method=point.method,
        seed=point.seed,
        replicate_of=point.replicate_of,
        state="proposed",
        top1=None,
        latency_ratio=None,
        seconds={},
    )


def run_study(study: Study, num_trials: int, batch_size: int) -> list[TrialRecord]:
    """Propose and evaluate, batch by batch."""
    records: list[TrialRecord] = []
    while len(records) < num_trials:
        proposal = propose(study, BASE_VALUES, records, BASELINES, batch_size)
        records += [evaluate(point) for point in proposal.points]
    return records


def hypervolume(study: Study, records: Sequence[TrialRecord], reference: Mapping[str, float]) -> float:
    """Return the area between the feasible front and a worst point: less latency, more top1."""
    rows = leaderboard(
        make_results(records, baselines=make_baselines(), study=study.model_dump(mode="json", by_alias=True))
    )
    front = sorted((row.metrics["latency_ratio"], row.metrics["top1"]) for row in rows if row.is_on_front)
    floors = itertools.accumulate((top1 for _, top1 in front), max, initial=reference["top1"])
    return sum(
        max(0.0, reference["latency_ratio"] - latency) * max(0.0, top1 - floor)
        for (latency, top1), floor in zip(front, floors, strict=False)
    )
