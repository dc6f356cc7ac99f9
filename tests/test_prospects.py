"""Who can still win: by laws, and a few cases by hand."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secateur.leaderboard import leaderboard
from secateur.prospects import (
    DEFAULT_SHIFT,
    MIN_COURSES,
    Course,
    Prospects,
    best_final_top1,
    complete_courses,
    course_of,
    highest_top1,
    is_audited,
)
from secateur.results import OFF_THE_SHELF, EpochResult, StudyResults, TrialRecord
from tests.factories import make_baselines, make_compressed, make_latency, make_record, make_results, make_study

NUM_EPOCHS = 3
BASELINE = 90.1

ratios = st.floats(0.2, 1.2)
top1s = st.floats(60.0, 93.0)
shifts = st.floats(0.0, 0.2)
fronts = st.lists(st.tuples(ratios, top1s), max_size=6)


def epochs(curve: tuple[float, ...]) -> tuple[EpochResult, ...]:
    return tuple(
        EpochResult(epoch=i - 1, lr=0.1, training_loss=0.5, top1=top1, top5=99.0, loss=0.5, duration_s=1.0)
        for i, top1 in enumerate(curve)
    )


def untrained(label: int, ratio: float, top1: float = 50.0, *, half_width: float = 0.0, **latency: Any) -> TrialRecord:
    """A candidate that was measured before it is trained."""
    compressed = make_compressed(top1).model_copy(update={"epochs": epochs((top1,))})
    record = make_record(label, state="proposed", latency_ratio=None)
    report = make_latency(ratio, half_width=half_width, **latency)
    return record.model_copy(update={"compressed": compressed, "latency": report})


def trained(label: int, ratio: float, top1: float) -> TrialRecord:
    return make_record(label, top1=top1, latency_ratio=ratio, num_params=1000 + label)


def study(points: list[tuple[float, float]], *constraints: str, **objectives: str) -> StudyResults:
    return make_results(
        [trained(i, ratio, top1) for i, (ratio, top1) in enumerate(points)],
        study=make_study(objectives=objectives or None, constraints=constraints),
    )


def enters(results: StudyResults, record: TrialRecord) -> bool:
    with_it = results.model_copy(update={"trials": (*results.trials, record)})
    return any(row.is_on_front and row.record.label == record.label for row in leaderboard(with_it))


CONSTRAINTS = st.sampled_from([(), ("top1 >= baseline - 5",), ("latency_ratio <= 0.7",), ("top1_drop <= 2.0",)])


# --- laws


@given(fronts, CONSTRAINTS, ratios, st.floats(0.0, 1.0), st.floats(-1.0, 1.0), shifts)
def test_who_would_have_entered_the_front_is_never_gated(
    points: list[tuple[float, float]],
    constraints: tuple[str, ...],
    ratio: float,
    share: float,
    change: float,
    shift: float,
) -> None:
    results = study(points, *constraints)
    gate = Prospects.of(results, NUM_EPOCHS, shift).gate(untrained(99, ratio))
    became = trained(99, ratio * (1 + change * shift), share * gate.optimistic_top1)
    assert gate.can_win or not enters(results, became)


@given(fronts, CONSTRAINTS, ratios, ratios, shifts)
def test_a_faster_network_is_not_gated_where_a_slower_one_is_not(
    points: list[tuple[float, float]], constraints: tuple[str, ...], one: float, other: float, shift: float
) -> None:
    prospects = Prospects.of(study(points, *constraints), NUM_EPOCHS, shift)
    faster, slower = (prospects.gate(untrained(99, ratio)).can_win for ratio in sorted((one, other)))
    assert faster or not slower


@given(st.lists(st.tuples(ratios, st.floats(10.0, 50.0)), max_size=6), ratios, shifts)
def test_an_empty_front_gates_nothing(points: list[tuple[float, float]], ratio: float, shift: float) -> None:
    results = study(points, "top1 >= baseline - 5", "latency_ratio <= 0.1")
    assert Prospects.of(results, NUM_EPOCHS, shift).gate(untrained(99, ratio)).can_win


@given(fronts, ratios, st.floats(0.0, 0.05), st.floats(0.0, 0.1))
def test_a_wider_interval_gates_no_more(
    points: list[tuple[float, float]], ratio: float, narrow: float, more: float
) -> None:
    prospects = Prospects.of(study(points), NUM_EPOCHS)
    wide = prospects.gate(untrained(99, ratio, half_width=narrow + more)).can_win
    assert wide or not prospects.gate(untrained(99, ratio, half_width=narrow)).can_win


@given(
    st.lists(st.floats(1.0, 90.0), min_size=MIN_COURSES, max_size=20, unique=True),
    st.floats(0.3, 1.0),
    st.floats(0.3, 1.5),
    st.floats(1.0, 90.0),
)
def test_where_curves_obey_a_law_the_best_is_what_the_law_says(
    errors: list[float], factor: float, power: float, error: float
) -> None:
    complete = [Course(1, (0.0, 100 - e, 100 - factor * e**power)) for e in errors]
    if max(errors) - min(errors) > 1:
        assert best_final_top1(100 - error, 1, complete) == pytest.approx(
            100 - factor * error**power, abs=1e-3 * (1 + error**power)
        )


@given(st.lists(st.floats(-0.3, 0.3), min_size=20, max_size=20), st.floats(20.0, 90.0), st.integers(MIN_COURSES, 19))
def test_the_best_is_better_than_expected_and_never_beyond_100(noises: list[float], top1: float, count: int) -> None:
    curves = ((0.0, 20.0 + 3 * i, 100 - 0.5 * (80 - 3 * i) * math.exp(noise)) for i, noise in enumerate(noises))
    complete = [Course(1, curve) for curve in curves]
    likely = best_final_top1(top1, 1, complete[:count], level=0.5)
    assert likely <= best_final_top1(top1, 1, complete[:count], level=0.9) <= 100.0


def test_as_many_curves_as_the_level_says_end_below_their_best() -> None:
    rng = random.Random(0)

    def curve() -> tuple[float, float]:
        error = rng.uniform(20, 60)
        return 100 - error, 100 - 0.7 * error * math.exp(rng.gauss(0, 0.05))

    below = []
    for _ in range(500):
        complete, (top1, final) = [Course(1, curve()) for _ in range(MIN_COURSES)], curve()
        below.append(final <= best_final_top1(top1, 0, complete, level=0.9))
    assert 0.87 <= sum(below) / len(below) <= 0.93


@given(
    st.lists(st.tuples(st.floats(1.0, 90.0), st.integers(1000, 10**6)), min_size=8, max_size=20, unique=True),
    st.floats(0.0, 1.0),
    st.floats(-0.3, 0.0),
    st.tuples(st.floats(1.0, 90.0), st.integers(1000, 10**6)),
)
def test_before_training_the_size_may_be_part_of_the_law(
    known: list[tuple[float, int]], power: float, of_size: float, this: tuple[float, int]
) -> None:
    def last(error: float, num_params: int) -> float:
        return 100 - error**power * (num_params / 1000) ** of_size

    logs = np.log(known)
    assume(np.linalg.svd(logs - logs.mean(axis=0), compute_uv=False)[-1] > 0.5)  # neither is the other's law
    complete = [Course(size, (100 - error, last(error, size))) for error, size in known]
    found = best_final_top1(100 - this[0], 0, complete, num_params=this[1])
    assert found == pytest.approx(last(*this), abs=1e-2)


# --- by hand


@pytest.mark.parametrize(
    ("ratio", "can_win"),
    [
        pytest.param(0.62, True, id="within what training may change"),
        pytest.param(0.64, False, id="slower than the only one that counts"),
    ],
)
def test_with_latency_alone_to_gain_the_slower_lose(ratio: float, can_win: bool) -> None:
    results = study([(0.6, 89.9)], "top1 >= baseline - 1", latency_ratio="minimize")
    gate = Prospects.of(results, NUM_EPOCHS, DEFAULT_SHIFT).gate(untrained(99, ratio))
    assert gate.can_win is can_win
    assert gate.optimistic_top1 > BASELINE


def test_a_noisy_latency_gates_nothing() -> None:
    results = study([(0.6, 89.9)], latency_ratio="minimize")
    prospects = Prospects.of(results, NUM_EPOCHS)
    assert not prospects.gate(untrained(99, 0.9)).can_win
    assert prospects.gate(untrained(99, 0.9, is_noisy=True)).can_win


def test_a_noisy_latency_on_the_front_gates_only_what_is_surely_slower() -> None:
    lucky = make_record(0, state="noisy", top1=89.9, latency_ratio=0.5).model_copy(
        update={"latency": make_latency(0.5, half_width=0.4, is_noisy=True)}
    )
    prospects = Prospects.of(
        make_results([lucky], study=make_study(objectives={"latency_ratio": "minimize"})), NUM_EPOCHS
    )
    assert prospects.gate(untrained(99, 0.6)).can_win
    assert not prospects.gate(untrained(99, 0.9)).can_win


def test_of_a_metric_that_nobody_knows_before_training_the_best_is_thought() -> None:
    results = study([(0.6, 89.9)], "min_class_sensitivity >= 80", "size_bytes <= 1", latency_ratio="minimize")
    assert Prospects.of(results, NUM_EPOCHS).gate(untrained(99, 0.9)).can_win  # nobody is on the front
    results = study([(0.6, 89.9)], loss="minimize", latency_ratio="minimize")
    assert Prospects.of(results, NUM_EPOCHS).gate(untrained(99, 0.9)).can_win


def test_sizes_are_known_before_training() -> None:
    results = study([(0.6, 89.9)], macs="minimize")  # 1000 parameters, so 150,000 MACs
    small = untrained(99, 0.9).model_copy(update={"compressed": make_compressed(50.0, num_params=999, num_epochs=0)})
    prospects = Prospects.of(results, NUM_EPOCHS)
    assert prospects.gate(small).can_win
    assert not prospects.gate(untrained(99, 0.9)).can_win


def test_the_highest_top1_is_the_best_known_and_what_a_seed_may_add() -> None:
    # 5000 images, of which a share p is right: the binomial standard error, three times
    assert highest_top1(study([])) == pytest.approx(90.1 + 3 * 0.4225, abs=0.01)
    assert highest_top1(study([(0.9, 95.0), (0.8, 80.0)])) == pytest.approx(95.0 + 3 * 0.3083, abs=0.01)
    assert highest_top1(make_results([], baselines={})) == 100.0


def test_replicates_tell_how_far_seeds_scatter() -> None:
    first = trained(0, 0.6, 89.0)
    others = [trained(i, 0.6, top1).model_copy(update={"replicate_of": "0"}) for i, top1 in ((1, 89.2), (2, 88.8))]
    more = [trained(3, 0.5, 85.0), trained(4, 0.5, 85.4).model_copy(update={"replicate_of": "3"})]
    results = make_results([first, *others, *more])
    spread = ((0.0 + 0.04 + 0.04 + 0.04 + 0.04) / 3) ** 0.5
    assert highest_top1(results) == pytest.approx(90.1 + 3 * spread)


def curved(label: int, curve: tuple[float, ...], **changes: Any) -> TrialRecord:
    compressed = make_compressed(curve[-1], num_params=1000 + label, epochs=epochs(curve))
    return trained(label, 0.5, curve[-1]).model_copy(update={"compressed": compressed, **changes})


def test_nothing_is_stopped_before_there_are_enough_courses() -> None:
    good = [curved(i, (50.0, 80.0, 85.0, 90.0)) for i in range(MIN_COURSES)]
    other = curved(99, (40.0, 70.0, 75.0, 80.0)).model_copy(update={"label": OFF_THE_SHELF})
    off_the_shelf = {**make_baselines(), OFF_THE_SHELF: other}
    hopeless = untrained(98, 0.9)
    few = Prospects.of(make_results(good[2:], baselines=off_the_shelf), NUM_EPOCHS)
    enough = Prospects.of(make_results(good[1:], baselines=off_the_shelf), NUM_EPOCHS)
    assert few.goes_on(hopeless, 10.0, 2)
    assert not enough.goes_on(hopeless, 10.0, 2)
    assert enough.goes_on(hopeless, 89.0, 2)
    assert enough.goes_on(untrained(98, 0.3), 85.0, 2)  # faster than all: any top1 within the constraint will do


def test_with_too_few_courses_anything_is_thinkable() -> None:
    complete = [Course(1, (50.0, 80.0, 90.0))] * MIN_COURSES
    assert best_final_top1(80.0, 1, complete[1:]) == 100.0
    assert best_final_top1(80.0, 1, complete) == pytest.approx(90.0)
    assert best_final_top1(100.0, 1, [Course(1, (50.0, 100.0, 100.0))] * MIN_COURSES) == pytest.approx(99.9)


def test_only_whole_courses_of_different_networks_count() -> None:
    whole = curved(0, (1.0, 2.0, 3.0, 4.0))
    records = [
        whole,
        curved(1, (1.0, 2.0, 3.0, 4.0), compressed=whole.compressed),  # the same network
        curved(2, (1.0, 2.0)).model_copy(update={"state": "stopped"}),
        curved(3, (1.0,), state="gated"),
        curved(4, (5.0, 6.0, 7.0, 8.0), state="failed"),
        curved(5, (5.0, 6.0, 7.0, 8.0)),
    ]
    found = complete_courses(make_results(records, baselines={}), NUM_EPOCHS)
    assert found == (course_of(whole), Course(1005, (5.0, 6.0, 7.0, 8.0)))


def test_one_gated_candidate_in_ten_is_audited_and_always_the_same() -> None:
    records = [make_record(i) for i in range(2000)]
    audited = [record.label for record in records if is_audited(record)]
    assert 150 <= len(audited) <= 250
    assert audited == [record.label for record in records if is_audited(record)]
    assert audited != [r.label for r in records if is_audited(r.model_copy(update={"seed": 1}))]
