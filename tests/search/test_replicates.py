"""How far top1 scatters, and what is trained twice to find out."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.config import Study
from secateur.results import TrialRecord
from secateur.search.goal import Goal
from secateur.search.replicates import next_replicate, replicate_seed, top1_error
from tests.factories import make_compressed, make_record
from tests.search.synthetic import BASELINES, make_search_study

TOP1S = [70.0, 88.0, 60.0, 86.0]


def make_goal(study: Study) -> Goal:
    return Goal.from_search(study.search, BASELINES)


def make_trials() -> list[TrialRecord]:
    return [make_record(i, top1=top1) for i, top1 in enumerate(TOP1S)]


def replicate(label: int, of: str, top1: float | None = 85.0, **changes: Any) -> TrialRecord:
    return make_record(label, top1=top1, replicate_of=of, method="replicate", **changes)


def next_of(study: Study, records: list[TrialRecord]) -> str | None:
    record = next_replicate(study, make_goal(study), records)
    return None if record is None else record.label


def test_error_is_pooled_over_networks() -> None:
    records = [*make_trials(), replicate(4, "1", 87.0), replicate(5, "3", 86.5), replicate(6, "1", 89.0)]
    # 88, 87, 89 deviate from 88 by 0, 1, 1; 86, 86.5 from 86.25 by 0.25 each; 2 + 1 degrees of freedom.
    assert top1_error(records) == pytest.approx(((2 + 2 * 0.0625) / 3) ** 0.5)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param([], id="no replicate"),
        pytest.param([replicate(4, "1"), replicate(5, "3")], id="two degrees of freedom"),
        pytest.param([replicate(4, "1"), replicate(5, "3"), replicate(6, "1", state="failed")], id="one failed"),
        pytest.param(
            [replicate(4, "1"), replicate(5, "3"), replicate(6, "1", None, latency_ratio=None, state="proposed")],
            id="one pending",
        ),
        pytest.param([replicate(i, "1", 88.0) for i in range(4, 8)], id="no scatter at all"),
    ],
)
def test_too_little_says_nothing(more: list[TrialRecord]) -> None:
    assert top1_error([*make_trials(), *more]) is None


def test_better_half_is_trained_again_each_once() -> None:
    study, records = make_search_study(replicates=3), make_trials()
    assert next_of(study, records) == "1"
    records.append(replicate(4, "1", None, latency_ratio=None, state="proposed"))
    assert next_of(study, records) == "3"
    records.append(replicate(5, "3"))
    assert next_of(study, records) is None
    assert next_of(study, [*records, make_record(6, top1=89.0)]) == "6"
    assert next_of(make_search_study(replicates=2), [*records, make_record(6, top1=89.0)]) is None


def test_only_what_was_trained_has_a_scatter() -> None:
    untrained = {"compressed": make_compressed(88.0, num_epochs=0)}
    records = [record.model_copy(update=untrained) for record in make_trials()]
    assert next_of(make_search_study(replicates=3), records) is None
    assert next_of(make_search_study(replicates=3), [make_record(0, state="failed")]) is None


@pytest.mark.parametrize(("trials", "expected"), [(31, None), (32, "1")])
def test_a_small_study_has_none_to_spare(trials: int, expected: str | None) -> None:
    study = make_search_study()
    study = study.model_copy(update={"budget": study.budget.model_copy(update={"trials": trials})})
    assert next_of(study, make_trials()) == expected


def test_top1_must_matter() -> None:
    latency_alone = make_search_study(replicates=3, objectives={"latency_ratio": "minimize"}, constraints=())
    assert next_of(latency_alone, make_trials()) is None
    bounded = make_search_study(replicates=3, objectives={"latency_ratio": "minimize"}, constraints=["top1_drop <= 1"])
    assert next_of(bounded, make_trials()) == "1"


def test_seeds_differ_by_study_and_trial() -> None:
    seeds = [replicate_seed(make_search_study(seed=seed), index) for seed in range(3) for index in range(3)]
    assert len({*seeds, 0}) == 10
