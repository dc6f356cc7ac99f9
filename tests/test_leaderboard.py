"""Fronts by their law, and a leaderboard by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.config import Constraint
from secateur.leaderboard import Direction, is_feasible, leaderboard, pareto_front
from tests.factories import make_record, make_results, make_study

NAMES = ("a", "b", "c")
# A few values only, so that ties and duplicates are common.
POINTS = st.lists(st.fixed_dictionaries({name: st.sampled_from([0.0, 1.0, 2.0, 3.0]) for name in NAMES}), max_size=25)
OBJECTIVES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["minimize", "maximize"]), min_size=1)


def dominates(a: dict[str, float], b: dict[str, float], objectives: dict[str, Direction]) -> bool:
    gains = [(b[name] - a[name]) * (1 if way == "minimize" else -1) for name, way in objectives.items()]
    return min(gains) >= 0 and max(gains) > 0


@settings(deadline=None)
@given(POINTS, OBJECTIVES)
def test_front_is_what_nothing_dominates_without_duplicates(
    points: list[dict[str, float]], objectives: dict[str, Direction]
) -> None:
    front = pareto_front(points, objectives)
    assert front == sorted(set(front))
    for i, point in enumerate(points):
        is_dominated = any(dominates(other, point, objectives) for other in points)
        is_repeated = any(all(points[j][name] == point[name] for name in objectives) for j in range(i))
        assert (i in front) == (not is_dominated and not is_repeated)


def test_front_leaves_out_points_without_a_number() -> None:
    points = [{"a": 1.0}, {"a": float("nan"), "b": 0.0}, {}, {"a": 2.0, "b": 2.0}]
    assert pareto_front(points, {"a": "minimize", "b": "minimize"}) == [3]


def test_front_of_nothing_is_empty() -> None:
    assert pareto_front([], {"a": "minimize"}) == []


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        pytest.param({"top1": 89.0}, True, id="on the bound"),
        pytest.param({"top1": 88.9}, False, id="below"),
        pytest.param({}, False, id="absent"),
        pytest.param({"top1": float("nan")}, False, id="NaN"),
    ],
)
def test_feasible_means_every_constraint_holds(metrics: dict[str, float], expected: bool) -> None:
    constraints = [Constraint.parse("top1 >= baseline - 1.0"), Constraint.parse("top1 <= 100")]
    assert is_feasible(metrics, constraints, {"baseline": {"top1": 90.0}}) is expected


def test_nothing_is_feasible_against_an_unknown_baseline() -> None:
    assert not is_feasible({"top1": 99.0}, [Constraint.parse("top1 >= off_the_shelf")], {"baseline": {"top1": 90.0}})


def test_leaderboard_by_hand() -> None:
    trials = [
        make_record(0, top1=89.5, latency_ratio=0.80),
        make_record(1, state="proposed", top1=None, latency_ratio=None),
        make_record(2, top1=70.0, latency_ratio=0.30),  # breaks the constraint (baseline 90.1)
        make_record(3, top1=89.2, latency_ratio=0.60, state="noisy"),
        make_record(4, state="failed"),
        make_record(5, top1=89.3, latency_ratio=0.85),  # dominated by 0
        make_record(6, top1=89.5, latency_ratio=0.80),  # equal to 0
        make_record(7, top1=10.0, latency_ratio=0.20, state="suspect"),
        make_record(8, top1=89.9, latency_ratio=None, state="compressed"),
    ]
    rows = leaderboard(make_results(trials))
    assert [row.record.index for row in rows] == [3, 0, 6, 5, 7, 2, 1, 4, 8]
    assert [row.record.index for row in rows if row.is_on_front] == [3, 0]
    assert [row.record.index for row in rows if row.is_feasible] == [3, 0, 6, 5]
    assert rows[0].metrics["top1_drop"] == pytest.approx(0.9)


def test_failed_trial_is_never_on_the_front_whatever_was_measured() -> None:
    failed = make_record(0, top1=99.0, latency_ratio=0.1).model_copy(update={"state": "failed"})
    (row,) = leaderboard(make_results([failed]))
    assert not row.is_on_front
    assert not row.is_feasible


def test_single_objective_has_one_winner() -> None:
    study = make_study(objectives={"top1": "maximize"}, constraints=())
    trials = [make_record(i, top1=top1) for i, top1 in enumerate((88.0, 91.0, 90.0))]
    rows = leaderboard(make_results(trials, study=study))
    assert [(row.record.index, row.is_on_front) for row in rows] == [(1, True), (2, False), (0, False)]


def test_before_the_baseline_is_measured_nothing_is_feasible() -> None:
    rows = leaderboard(make_results([make_record(0)], baselines={}))
    assert [(row.is_feasible, row.is_on_front) for row in rows] == [(False, False)]


@pytest.mark.parametrize(
    "objectives", [{"latency_ratio": "minimize"}, {"latency_ratio": "minimize", "top1": "maximize"}]
)
def test_what_was_not_trained_to_the_end_is_never_on_the_front(objectives: dict[str, str]) -> None:
    stopped = make_record(1, top1=99.0, latency_ratio=0.1, state="stopped")
    assert stopped.compressed is not None
    stopped = stopped.model_copy(update={"compressed": stopped.compressed.model_copy(update={"is_stopped": True})})
    trials = [make_record(0, top1=99.0, latency_ratio=0.1, state="gated"), stopped, make_record(2)]
    rows = leaderboard(make_results(trials, study=make_study(objectives=objectives, constraints=())))
    assert [row.record.label for row in rows if row.is_on_front] == ["2"]
    assert [row.record.label for row in rows if row.is_feasible] == ["2"]
    assert all("top1" not in row.metrics and "latency_ratio" in row.metrics for row in rows if row.record.label != "2")
