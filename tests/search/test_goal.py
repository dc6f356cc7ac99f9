"""Objectives, bounds and outcomes as Ax gets them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from secateur.config import Search
from secateur.errors import SearchError
from secateur.results import Scores
from secateur.search.goal import Goal
from tests.factories import make_compressed, make_latency, make_record

BOTH = {"latency_ratio": "minimize", "top1": "maximize"}
BASELINES = {"baseline": {"top1": 90.0, "top5": 99.0, "latency_ratio": 1.0, "macs": 100.0}}


def make_goal(objectives: dict[str, str], *constraints: str, baselines: Any = BASELINES) -> Goal:
    search = {"parameters": {"x": {"min": 0, "max": 1}}, "objectives": objectives, "constraints": constraints}
    return Goal.from_search(Search.model_validate(search), baselines)


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        pytest.param(["macs <= 2e6"], ["m_macs <= 2000000.0"], id="number"),
        pytest.param(["top5 <= 9", "top5 >= 1"], ["m_top5 <= 9.0", "m_top5 >= 1.0"], id="both sides"),
        pytest.param(["top1_drop <= -1e-05"], ["m_top1_drop <= -1e-05"], id="small"),
        pytest.param(["macs <= baseline + 5"], ["m_macs <= 105.0"], id="relative"),
        pytest.param(["top5 >= 80", "top5 >= baseline - 10", "top5 >= 85"], ["m_top5 >= 89.0"], id="tightest"),
        pytest.param(["top1 >= 80"], [], id="agrees with the objective"),
        pytest.param(["top1 <= 80"], ["copy_top1 <= 80.0"], id="opposes the objective"),
        pytest.param([], [], id="none"),
    ],
)
def test_constraints_of_a_single_objective(constraints: list[str], expected: list[str]) -> None:
    goal = make_goal({"top1": "maximize"}, *constraints)
    assert goal.ax_objective == "m_top1"
    assert goal.ax_constraints([make_record()]) == expected


@pytest.mark.parametrize(
    ("constraints", "expected"),
    [
        pytest.param(["top1 >= baseline - 1.5"], ["m_top1 >= 88.5", "m_latency_ratio <= 1.0"], id="unpruned latency"),
        pytest.param([], ["m_latency_ratio <= 1.0", "m_top1 >= 60.0"], id="worst seen"),
        pytest.param(
            ["macs <= 50"], ["m_macs <= 50.0", "m_latency_ratio <= 1.0", "m_top1 >= 70.0"], id="worst feasible"
        ),
        pytest.param(["macs <= 1"], ["m_macs <= 1.0", "m_latency_ratio <= 1.0", "m_top1 >= 60.0"], id="none feasible"),
        pytest.param(
            ["latency_ratio <= 0.5", "top1 <= 80"],
            ["m_latency_ratio <= 0.5", "copy_top1 <= 80.0", "m_top1 >= 70.0"],
            id="opposes",
        ),
    ],
)
def test_several_objectives_have_a_reference_point(constraints: list[str], expected: list[str]) -> None:
    trials = [(60.0, 0.6, 90), (80.0, 0.5, 40), (70.0, 0.45, 30)]
    records = [
        make_record(top1=top1, latency_ratio=ratio).model_copy(update={"compressed": make_compressed(top1, macs=macs)})
        for top1, ratio, macs in trials
    ]
    goal = make_goal(BOTH, *constraints)
    assert goal.ax_objective == "-m_latency_ratio, m_top1"
    assert goal.ax_constraints([*records, make_record(state="failed")]) == expected


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("top1 >= off_the_shelf", "'top1' of 'off_the_shelf', of which nothing is known"),
        ("loss <= baseline", r"'loss' of 'baseline', of which top1, .* macs is known.*secateur baseline"),
    ],
)
def test_reference_to_what_is_not_known(constraint: str, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        make_goal(BOTH, constraint)


def test_latency_enters_with_its_standard_error() -> None:
    goal = make_goal({"latency_ratio": "minimize", "total_latency_ms": "minimize", "top1": "maximize"})
    latency = make_latency(0.5, reference_ms=4.0, half_width=0.0196)
    outcome = goal.outcome(make_record(latency_ratio=None, top1=88.0, latency=latency, state="noisy"))
    assert outcome == {
        "m_latency_ratio": pytest.approx((0.5, 0.005)),
        "m_total_latency_ms": pytest.approx((2.0, 0.02)),
        "m_top1": 88.0,
    }


def test_top1_enters_with_its_scatter_from_seed_to_seed() -> None:
    goal = replace(make_goal({"latency_ratio": "minimize", "top1": "maximize"}, "top1_drop <= 3"), top1_error=0.3)
    outcome = goal.outcome(make_record(top1=88.0, latency_ratio=0.8))
    assert outcome is not None
    assert (outcome["m_top1"], outcome["m_top1_drop"]) == ((88.0, 0.3), (2.0, 0.3))


def test_bounded_metrics_are_in_the_outcome() -> None:
    goal = make_goal(BOTH, "top1_drop <= 1.0", "macs <= 1e9", "latency_ratio >= 0.1")
    outcome = goal.outcome(make_record(top1=88.0, latency_ratio=0.8, num_params=10))
    assert outcome is not None
    assert outcome["m_top1_drop"] == 2.0
    assert outcome["m_macs"] == 1500.0
    assert outcome["copy_latency_ratio"] == outcome["m_latency_ratio"]


def with_score(score: float) -> dict[str, Any]:
    others = Scores(top1=88.0, top5=99.0, loss=0.3, num_images=10, others={"score": score})
    return {"compressed": make_compressed(validation=others)}


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(make_record(top1=None, state="proposed", latency_ratio=None), id="proposed"),
        pytest.param(make_record(latency_ratio=None, state="compressed"), id="compressed"),
        pytest.param(make_record(state="failed"), id="failed"),
        pytest.param(make_record().model_copy(update={"state": "failed"}), id="failed late"),
        pytest.param(make_record().model_copy(update=with_score(math.nan)), id="NaN"),
        pytest.param(make_record().model_copy(update=with_score(math.inf)), id="infinite"),
        pytest.param(make_record(), id="absent"),
    ],
)
def test_no_outcome_without_every_number(record: Any) -> None:
    assert make_goal({**BOTH, "score": "maximize"}).outcome(record) is None


def test_no_outcome_without_a_standard_error() -> None:
    assert make_goal(BOTH).outcome(make_record(half_width=math.nan)) is None


def test_outcome_of_a_network_that_predicts_one_class() -> None:
    outcome = make_goal({"top1": "maximize"}).outcome(make_record(state="suspect", top1=10.0))
    assert outcome == {"m_top1": 10.0}


def test_classes_and_calibration_may_be_bounded() -> None:
    goal = make_goal(BOTH, "min_class_sensitivity >= 80", "min_class_specificity >= 95", "calibration_error <= 5")
    shares = {"sensitivity": (0.9, 0.75, None), "specificity": (0.99, 0.96, 1.0), "calibration_error": 4.0}
    validation = Scores.model_validate({"top1": 88.0, "top5": 99.0, "loss": 0.3, "num_images": 10, **shares})
    record = make_record().model_copy(update={"compressed": make_compressed(validation=validation)})
    outcome = goal.outcome(record)
    assert outcome is not None
    assert [outcome[f"m_{bound.metric}"] for bound in goal.bounds] == [75.0, 96.0, 4.0]
    assert [bound.holds(record.metrics[bound.metric]) for bound in goal.bounds] == [False, True, True]
    assert goal.outcome(make_record()) is None  # of an older record nobody knows


@pytest.mark.parametrize("state", ["gated", "stopped"])
def test_of_what_was_not_trained_to_the_end_only_what_is_known_is_told(state: Any) -> None:
    record = make_record(state=state, top1=30.0, latency_ratio=0.5, num_params=10)
    if state == "stopped":
        record = record.model_copy(update={"compressed": make_compressed(30.0, num_params=10, is_stopped=True)})
    goal = make_goal(BOTH, "top1_drop <= 1.0", "macs <= 1e9")
    outcome = goal.outcome(record)
    assert outcome is not None
    assert outcome.keys() == {"m_latency_ratio", "m_macs"}
    assert outcome["m_latency_ratio"] == (0.5, pytest.approx(0.5 * 0.004 / 1.96))
    assert make_goal({"top1": "maximize"}).outcome(record) is None
    worse = make_record(top1=80.0, latency_ratio=0.9)
    assert goal.ax_constraints([record, worse]) == goal.ax_constraints([worse])  # nor is it anybody's worst
