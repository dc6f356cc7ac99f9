"""The next points, by each method."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from secateur.config import Study
from secateur.errors import SearchError, StudyError
from secateur.results import TrialRecord
from secateur.search import proposer
from secateur.search.proposer import Proposal, by_value, propose, snapshot
from secateur.search.repeats import Identify, Parameters
from secateur.search.replicates import replicate_seed
from secateur.search.sampling import random_points, sobol_point, sobol_points
from secateur.search.space import Space, grid_points
from tests.factories import make_record
from tests.search.synthetic import (
    BASE_VALUES,
    BASELINES,
    evaluate,
    hypervolume,
    make_search_study,
    pending,
    run_study,
)

GRID = {
    "p.a": {"min": 0.0, "max": 0.3, "step": 0.1},
    "p.b": {"values": ["x", "y", "z"]},
}


SPACE = Space.from_search(make_search_study().search, BASE_VALUES)


class FakeOptimiser:
    """An optimiser that answers what it was told to."""

    def __init__(self, answer: Callable[[int], list[dict[str, Any]]]) -> None:
        self.ask = answer
        self.pending: list[Any] = []
        self.repeats: list[tuple[Any, str]] = []

    def tell_pending(self, parameters: Any) -> None:
        self.pending.append(parameters)

    def tell_repeat(self, parameters: Any, known: TrialRecord) -> None:
        self.repeats.append((parameters, known.label))

    def to_json(self) -> dict[str, Any]:
        return {"pending": len(self.pending)}


def next_points(study: Study, records: list[TrialRecord], n: int, identify: Identify = by_value) -> Proposal:
    return propose(study, BASE_VALUES, records, BASELINES, n, identify)


def in_tenths(parameters: Parameters) -> tuple[int, ...]:
    """Let networks be the same where all parameters are, in whole tenths."""
    return tuple(math.floor(10 * float(value)) for value in parameters.values())


def sobol(study: Study, index: int) -> dict[str, Any]:
    return sobol_point(Space.from_search(study.search, BASE_VALUES), study.search.seed, index)


def test_grid_is_walked_in_order_whatever_the_batches() -> None:
    study = make_search_study(method="grid", parameters=GRID)
    expected = list(grid_points(Space.from_search(study.search, BASE_VALUES)))
    records: list[TrialRecord] = []
    for batch_size in (1, 5, 4, 100):
        points = next_points(study, records, batch_size).points
        records += [pending(point) for point in points]
    assert [record.parameters for record in records] == expected
    assert [record.index for record in records] == list(range(12))
    assert {record.method for record in records} == {"grid"}
    assert next_points(study, records, 4) == Proposal(points=(), optimiser_state=None)


def test_grid_fills_gaps_first() -> None:
    study = make_search_study(method="grid", parameters=GRID)
    records = [make_record(0, parameters={"p.a": 0.0, "p.b": "x"}), make_record(1, parameters={"p.a": 0.0, "p.b": "z"})]
    (point,) = next_points(study, records, 1).points
    assert (point.index, point.parameters) == (2, {"p.a": 0.0, "p.b": "y"})


def test_random_points_are_those_of_their_numbers() -> None:
    study = make_search_study(method="random", seed=3)
    space = Space.from_search(study.search, BASE_VALUES)
    records = [pending(point) for point in next_points(study, [], 3).points]
    points = next_points(study, records, 2).points
    assert [point.parameters for point in points] == list(islice(random_points(space, 3), 3, 5))
    assert [(point.index, point.method) for point in points] == [(3, "random"), (4, "random")]


@pytest.mark.parametrize(("wanted", "expected"), [(None, 5), (2, 2), (9, 9)])
def test_bayes_starts_with_sobol_points(wanted: int | None, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeOptimiser(lambda n: [{"p.a": 0.1 * i, "p.b": 0.0} for i in range(n)])
    monkeypatch.setattr(proposer, "_optimiser", lambda *_: fake)
    study = make_search_study(seed=3, initial_trials=wanted)
    records = [evaluate(point) for point in next_points(study, [], expected - 1).points]
    proposal = next_points(study, records, 3)
    assert [record.method for record in records] == ["sobol"] * (expected - 1)
    assert [point.method for point in proposal.points] == ["sobol", "bayes", "bayes"]
    assert [point.index for point in proposal.points] == [expected - 1, expected, expected + 1]
    assert proposal.points[0].parameters == sobol(study, expected - 1)


def test_bayes_begins_with_what_the_study_itself_says() -> None:
    study, own = make_search_study(initial_trials=3), {"p.a": 0.25, "p.b": 0.5}
    first = propose(study, own, [], BASELINES, 2, by_value)
    assert [(p.method, p.parameters) for p in first.points] == [("own", own), ("sobol", sobol(study, 0))]
    records = [evaluate(point) for point in first.points]
    assert [point.method for point in propose(study, own, records, BASELINES, 1, by_value).points] == ["sobol"]


@pytest.mark.parametrize("own", [{"p.a": 0.25, "p.b": None}, {"p.a": 0.25, "p.b": 1.5}])
def test_what_the_space_does_not_hold_is_no_point_of_it(own: dict[str, Any]) -> None:
    study = make_search_study(initial_trials=3)
    assert [point.method for point in propose(study, own, [], BASELINES, 2, by_value).points] == ["sobol"] * 2


def test_what_is_fixed_is_fixed_at_the_own_point_too() -> None:
    parameters = {"p.a": {"min": 0.0, "max": 1.0}, "p.b": {"value": 0.75}}
    study, own = make_search_study(initial_trials=3, parameters=parameters), {"p.a": 0.25, "p.b": 0.5}
    (point,) = propose(study, own, [], BASELINES, 1, by_value).points
    assert (point.method, point.parameters) == ("own", {"p.a": 0.25, "p.b": 0.75})


@pytest.mark.parametrize(("num_known", "methods"), [(2, ["own", "sobol"]), (5, ["sobol", "sobol"])])
def test_an_older_study_takes_it_in_while_it_is_quasi_random(num_known: int, methods: list[str]) -> None:
    study, own = make_search_study(initial_trials=5), {"p.a": 0.25, "p.b": 0.5}
    records = [pending(point) for point in next_points(study, [], num_known).points]
    assert [point.method for point in propose(study, own, records, BASELINES, 2, by_value).points] == methods
    assert propose(study, own, [], BASELINES, 0, by_value).points == ()


def test_the_model_learns_from_the_own_point() -> None:
    study, own = make_search_study(initial_trials=2), {"p.a": 0.25, "p.b": 0.5}
    records = [evaluate(point) for point in propose(study, own, [], BASELINES, 2, by_value).points]
    proposal = propose(study, own, records, BASELINES, 1, by_value)
    assert [point.method for point in proposal.points] == ["bayes"]
    told = json.dumps(proposal.optimiser_state)
    assert '"p.a": 0.25' in told


def test_what_a_person_has_queued_is_not_proposed_again() -> None:
    study, own = make_search_study(initial_trials=3), {"p.a": 0.25, "p.b": 0.5}
    queued = [make_record(0, parameters=own, method="manual")]
    assert [point.method for point in propose(study, own, queued, BASELINES, 1, by_value).points] == ["sobol"]


def test_points_stay_quasi_random_until_enough_is_known() -> None:
    study = make_search_study()
    records = [pending(point) for point in next_points(study, [], 8).points]
    points = next_points(study, [evaluate(_point(record)) for record in records[:1]] + records[1:], 2).points
    assert [(point.method, point.parameters) for point in points] == [("sobol", sobol(study, i)) for i in (8, 9)]


def _point(record: TrialRecord) -> proposer.Point:
    return proposer.Point(index=record.index, method=record.method, parameters=record.parameters, seed=record.seed)


def test_failing_model_costs_quasi_random_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(n: int) -> list[dict[str, Any]]:
        raise SearchError("ModelError: the matrix is singular\nand more")

    fake = FakeOptimiser(fail)
    monkeypatch.setattr(proposer, "_optimiser", lambda *_: fake)
    study = make_search_study(initial_trials=2)
    records = [evaluate(point) for point in next_points(study, [], 2).points]
    proposal = next_points(study, records, 2)
    assert [(p.method, p.parameters) for p in proposal.points] == [("sobol", sobol(study, i)) for i in (2, 3)]
    assert {p.remark for p in proposal.points} == {"Ax failed: ModelError: the matrix is singular"}
    assert proposal.optimiser_state == {"pending": 2}


def test_too_few_points_of_the_model_are_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([[{"p.a": 0.25, "p.b": 0.5}], []])
    monkeypatch.setattr(proposer, "_optimiser", lambda *_: FakeOptimiser(lambda n: next(answers)))
    study = make_search_study(initial_trials=2)
    records = [evaluate(point) for point in next_points(study, [], 2).points]
    points = next_points(study, records, 3).points
    assert [(p.index, p.method) for p in points] == [(2, "bayes"), (3, "sobol"), (4, "sobol")]
    assert [p.remark for p in points] == [None, *["Ax proposed fewer new networks than asked for."] * 2]
    assert points[1].parameters == sobol(study, 2)


def test_finished_space_ends_the_search() -> None:
    study = make_search_study(parameters={"p.a": {"min": 0, "max": 1}}, initial_trials=2, constraints=())
    records = [make_record(i, parameters={"p.a": i}, latency_ratio=0.9 - i / 10, top1=89.0 - i) for i in range(2)]
    assert propose(study, {"p.a": 0}, records, BASELINES, 1).points == ()


# --- the same network twice


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_sequences_pass_over_known_networks(method: str) -> None:
    study = make_search_study(method=method, initial_trials=60)
    records: list[TrialRecord] = []
    for batch_size in (30, 1, 2, 17):
        records += [pending(point) for point in next_points(study, records, batch_size, in_tenths).points]
    assert len({in_tenths(record.parameters) for record in records}) == 50
    one_by_one = next_points(study, [], 50, in_tenths).points
    assert [record.parameters for record in records] == [point.parameters for point in one_by_one]
    passed_over = sum(point.num_repeats for point in one_by_one)
    drawn = islice(sobol_points(SPACE, 0) if method == "bayes" else random_points(SPACE, 0), 50 + passed_over)
    assert list(drawn)[-1] == one_by_one[-1].parameters
    assert passed_over > 0


def test_grid_has_each_network_once() -> None:
    tenths = {"min": 0.0, "max": 0.3, "step": 0.05}
    study = make_search_study(method="grid", parameters={"p.a": tenths, "p.b": {"values": [0.5, 0.55, 0.6]}})
    points = next_points(study, [], 100, in_tenths).points
    assert len(points) == 4 * 2
    assert points[1].parameters == {"p.a": 0.0, "p.b": 0.6}
    assert points[1].num_repeats == 1
    assert next_points(study, [pending(point) for point in points], 1, in_tenths).points == ()


def test_model_is_told_what_it_repeats_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_search_study(initial_trials=2)
    records = [evaluate(point) for point in next_points(study, [], 2).points]
    repeat = {name: float(value) + 1e-6 for name, value in records[1].parameters.items()}
    answers = iter([[repeat, {"p.a": 0.35, "p.b": 0.75}], [{"p.a": 0.95, "p.b": 0.15}]])
    fake = FakeOptimiser(lambda n: next(answers))
    monkeypatch.setattr(proposer, "_optimiser", lambda *_: fake)
    points = next_points(study, records, 2, in_tenths).points
    assert [(p.parameters["p.a"], p.method, p.num_repeats) for p in points] == [(0.35, "bayes", 0), (0.95, "bayes", 1)]
    assert fake.repeats == [(repeat, "1")]


def test_model_that_goes_on_repeating_gets_what_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_search_study(initial_trials=2)
    records = [evaluate(point) for point in next_points(study, [], 2).points]
    repeat = records[0].parameters
    fake = FakeOptimiser(lambda n: [dict(repeat)])
    monkeypatch.setattr(proposer, "_optimiser", lambda *_: fake)
    (point,) = next_points(study, records, 1, in_tenths).points
    assert (point.method, point.num_repeats) == ("bayes", 2)
    assert in_tenths(point.parameters) not in {in_tenths(record.parameters) for record in records}
    assert all(abs(float(point.parameters[name]) - float(repeat[name])) < 0.15 for name in repeat)
    assert fake.pending == [point.parameters]


def test_real_model_proposes_each_network_once() -> None:
    study = make_search_study(initial_trials=6, constraints=())
    records: list[TrialRecord] = []
    for batch_size in (6, 4):
        records += [evaluate(point) for point in next_points(study, records, batch_size, in_tenths).points]
    assert len({in_tenths(record.parameters) for record in records}) == len(records)
    assert {record.method for record in records} == {"sobol", "bayes"}


# --- replicates


def test_replicates_follow_the_quasi_random_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([{"p.a": i / 20, "p.b": 0.5} for i in range(20)])
    fake = FakeOptimiser(lambda n: list(islice(found, n)))
    monkeypatch.setattr(proposer, "_optimiser", lambda *_: fake)
    study = make_search_study(initial_trials=6, replicates=2)
    records = run_study(study, 12, batch_size=3)
    replicates = [record for record in records if record.method == "replicate"]
    assert [record.index for record in replicates] == [6, 9]
    for replicate in replicates:
        (original,) = [record for record in records if record.label == replicate.replicate_of]
        assert original.parameters == replicate.parameters
        assert original.method == "sobol"
        assert (original.seed, replicate.seed) == (0, replicate_seed(study, replicate.index))
    assert len({replicate.replicate_of for replicate in replicates}) == 2
    assert len({replicate.seed for replicate in replicates}) == 2


def test_interrupted_search_goes_on_as_if_it_had_not_been() -> None:
    study = make_search_study(initial_trials=4)
    records = [evaluate(point) for point in next_points(study, [], 5).points]
    stored = [TrialRecord.model_validate_json(record.model_dump_json()) for record in reversed(records)]
    proposal = next_points(study, records, 2)
    assert next_points(study, stored, 2).points == proposal.points
    assert [point.method for point in proposal.points] == ["bayes", "bayes"]
    # These two are dispatched, and the process dies: they count as pending.
    more = next_points(study, [*stored, *(pending(point) for point in proposal.points)], 2).points
    assert [point.index for point in more] == [7, 8]
    assert not {tuple(p.parameters.values()) for p in more} & {tuple(p.parameters.values()) for p in proposal.points}


def test_state_holds_every_trial_and_proposal() -> None:
    study = make_search_study(initial_trials=3)
    records = [evaluate(point) for point in next_points(study, [], 3).points]
    state = next_points(study, records, 2).optimiser_state
    assert state is not None
    assert len(state["experiment"]["trials"]) == 5
    after = snapshot(study, BASE_VALUES, records, BASELINES)
    assert after is not None
    assert len(after["experiment"]["trials"]) == 3


def test_no_state_before_the_model_is_asked_nor_without_one() -> None:
    study = make_search_study(initial_trials=3)
    records = [evaluate(point) for point in next_points(study, [], 2).points]
    assert snapshot(study, BASE_VALUES, records, BASELINES) is None
    assert snapshot(make_search_study(method="random"), BASE_VALUES, records, BASELINES) is None


@pytest.mark.slow
def test_bayes_finds_a_better_front_than_chance() -> None:
    worst = {"latency_ratio": 1.0, "top1": 89.1}
    num_trials = 15
    bayes_study = make_search_study(initial_trials=5)
    records = run_study(bayes_study, num_trials, batch_size=5)
    assert [record.method for record in records] == ["sobol"] * 5 + ["bayes"] * 10
    by_chance = [
        hypervolume(study, run_study(study, num_trials, batch_size=5), worst)
        for study in (make_search_study(method="random", seed=seed) for seed in range(10))
    ]
    assert hypervolume(bayes_study, records, worst) > max(by_chance)


def test_whole_numbers_stay_whole() -> None:
    study = make_search_study(
        parameters={"p.a": {"min": 5, "max": 9}, "p.b": {"values": [1, 2, 4]}}, initial_trials=3, constraints=()
    )
    base = {"p.a": 7, "p.b": 1}
    records = [
        make_record(i, parameters=p.parameters, latency_ratio=0.9 - i / 10, top1=89.0 - i)
        for i, p in enumerate(propose(study, base, [], BASELINES, 3).points)
    ]
    points = propose(study, base, records, BASELINES, 2).points
    for values in [r.parameters for r in records] + [p.parameters for p in points]:
        assert isinstance(values["p.a"], int)
        assert values["p.b"] in (1, 2, 4)


def test_bad_space_and_bad_constraint_are_told_apart() -> None:
    with pytest.raises(StudyError, match=r"called 'p\.a'"):
        propose(make_search_study(), {}, [], BASELINES, 1)
    with pytest.raises(SearchError, match=r"Constraint 'top1 >= baseline - 1\.0' needs 'top1'"):
        propose(make_search_study(), BASE_VALUES, [], {}, 1)


def test_without_ax_bayes_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_search_study(initial_trials=1)
    records = [evaluate(point) for point in next_points(study, [], 1).points]
    monkeypatch.setitem(sys.modules, "secateur.search.ax_optimiser", None)
    with pytest.raises(SearchError, match=r"needs Ax \(.*\): install secateur\[search\], or use method 'random'"):
        next_points(study, records, 1)


def test_only_the_model_needs_ax_and_torch() -> None:
    code = "import sys, secateur.search.proposer; sys.exit(bool({'ax', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
