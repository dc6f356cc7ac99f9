"""What nights tell: false alarms are as rare as promised, changes are found and named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.championship import Night
from secateur.drift import FALSE_ALARMS, Drift, find_drift, prediction_interval
from secateur.results import OFF_THE_SHELF, UNPRUNED
from tests.factories import make_device, make_latency

NETWORKS = {UNPRUNED: "objects/a", OFF_THE_SHELF: "objects/b", "champion": "objects/c"}


def make_night(
    number: int, *, reference_ms: float = 2.0, champion: float = 0.5, networks: dict[str, str] = NETWORKS, **device: Any
) -> Night:
    ratios = {OFF_THE_SHELF: 0.8, "champion": champion}
    reports = {
        label: make_latency(ratio, reference_ms=reference_ms, device=make_device(**device))
        for label, ratio in ratios.items()
        if label in networks
    }
    when = f"2026-11-{number + 1:02d}T04:00:00+00:00"
    return Night(place="edge", measured_at=when, networks=networks, reports=reports)


def usual(count: int) -> list[Night]:
    """Return nights that differ by half a percent."""
    return [make_night(i, reference_ms=2.0 + 0.01 * (i % 3), champion=0.5 + 0.002 * (i % 2)) for i in range(count)]


def changed(drift: Drift) -> list[tuple[str, str]]:
    return [(c.told_by, c.network) for c in drift.comparisons if c.has_changed]


@pytest.mark.parametrize("num_nights", [3, 10])
def test_false_alarms_are_as_rare_as_promised(num_nights: int) -> None:
    rng, level = np.random.default_rng(0), 0.05
    alarms = 0
    for _ in range(2000):
        *earlier, last = np.exp(rng.normal(0.0, 0.02, num_nights + 1)).tolist()
        low, high = prediction_interval(earlier, level)
        alarms += not low <= last <= high
    assert abs(alarms / 2000 - level) < 3 * math.sqrt(level * (1 - level) / 2000)


def test_all_figures_of_a_night_share_the_rate() -> None:
    rng = np.random.default_rng(1)
    drifts = [
        find_drift(
            [
                make_night(
                    i, reference_ms=2 * math.exp(rng.normal(0, 0.05)), champion=0.5 * math.exp(rng.normal(0, 0.01))
                )
                for i in range(11)
            ]
        )
        for _ in range(500)
    ]
    num_alarms = sum(drift.has_changed for drift in drifts)
    assert num_alarms <= 500 * FALSE_ALARMS + 3 * math.sqrt(500 * FALSE_ALARMS)


@given(
    values=st.lists(st.floats(0.01, 100.0), min_size=3, max_size=10),
    factor=st.floats(0.1, 10.0),
    level=st.floats(0.001, 0.5),
)
def test_intervals_hold_the_usual_and_scale_with_it(values: Sequence[float], factor: float, level: float) -> None:
    low, high = prediction_interval(values, level)
    centre = math.exp(sum(map(math.log, values)) / len(values))
    assert low <= centre * (1 + 1e-9)
    assert high >= centre * (1 - 1e-9)
    scaled = prediction_interval([factor * value for value in values], level)
    assert scaled == pytest.approx((factor * low, factor * high), rel=1e-6)
    wider = prediction_interval(values, level / 2)
    assert wider[0] <= low * (1 + 1e-9)
    assert wider[1] >= high * (1 - 1e-9)


def test_hand_made_interval() -> None:
    # Logarithms 0, 1, 2: mean 1, s 1, t(0.975, 2 degrees) = 4.302653, sqrt(1 + 1/3) = 1.154701.
    low, high = prediction_interval([1.0, math.e, math.e**2], 0.05)
    assert (math.log(low), math.log(high)) == pytest.approx((1 - 4.968275, 1 + 4.968275), abs=1e-5)


def test_nothing_has_changed() -> None:
    drift = find_drift(usual(11))
    assert (drift.has_changed, drift.sentences) == (False, ())
    assert [(c.network, c.metric, c.num_nights) for c in drift.comparisons] == [
        (UNPRUNED, "total_latency_ms", 10),
        (OFF_THE_SHELF, "latency_ratio", 10),
        ("champion", "latency_ratio", 10),
    ]


def test_the_device_slows_down() -> None:
    drift = find_drift([*usual(10), make_night(10, reference_ms=2.6, champion=0.501)])
    assert changed(drift) == [("device", UNPRUNED)]
    assert drift.has_changed
    (sentence,) = drift.sentences
    assert sentence.startswith("device: unpruned's total_latency_ms is 2.6, outside of [1.9")
    assert sentence.endswith("], which 10 nights before predict.")


def test_a_model_is_no_longer_as_fast() -> None:
    drift = find_drift([*usual(10), make_night(10, champion=0.55)])
    assert changed(drift) == [("model", "champion")]


def test_only_the_last_ten_nights_count() -> None:
    long_ago = [make_night(i, reference_ms=9.0 + i) for i in range(10)]
    assert changed(find_drift([*long_ago, *usual(10), make_night(10, reference_ms=2.6)])) == [("device", UNPRUNED)]


def test_another_device_begins_anew() -> None:
    drift = find_drift([*usual(10), make_night(10, reference_ms=2.6, runtime="2027.0.0")])
    assert drift.has_changed
    assert drift.sentences == ("device: runtime was '2026.4.0-21345', is '2027.0.0'.",)
    assert {c.num_nights for c in drift.comparisons} == {0}
    assert not find_drift([*usual(10), *(make_night(i, runtime="2027.0.0") for i in (10, 11))]).has_changed


def test_another_champion_is_told_and_no_alarm() -> None:
    networks = NETWORKS | {"champion": "objects/d"}
    drift = find_drift([*usual(10), make_night(10, champion=0.4, networks=networks)])
    assert not drift.has_changed
    assert drift.sentences == ("model: champion is another network than the night before.",)
    assert [c.num_nights for c in drift.comparisons] == [10, 10, 0]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_nights_say_nothing(count: int) -> None:
    drift = find_drift([*usual(count), make_night(20, reference_ms=50.0)])
    assert not drift.has_changed
    assert all(c.predicted is None for c in drift.comparisons)
