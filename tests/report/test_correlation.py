"""Correlations, against numpy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.report.correlation import correlations, known_metrics, means_by_value, pearson
from secateur.report.facts import gather
from tests.factories import make_record, make_results, make_study

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def test_pearson_matches_numpy() -> None:
    rng = np.random.default_rng(0)
    xs, noise = rng.normal(size=200), rng.normal(size=200)
    for ys in (xs, -2 * xs + 1, xs + noise, noise, np.exp(xs)):
        assert pearson(xs.tolist(), ys.tolist()) == pytest.approx(np.corrcoef(xs, ys)[0, 1], abs=1e-12)


@pytest.mark.parametrize(
    ("xs", "ys"),
    [([], []), ([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]), ([1, 2, 3], [0.1] * 3)],
    ids=["none", "one", "two", "x does not vary", "y does not vary"],
)
def test_pearson_is_unknown_for_few_points_or_no_variation(xs: list[float], ys: list[float]) -> None:
    assert pearson(xs, ys) is None


@given(st.lists(st.tuples(FINITE, FINITE), max_size=20))
@settings(derandomize=True)
def test_pearson_lies_between_minus_one_and_one(pairs: list[tuple[float, float]]) -> None:
    xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
    r = pearson(xs, ys)
    assert r is None or -1 <= r <= 1
    assert pearson(ys, xs) == (None if r is None else pytest.approx(r, abs=1e-9))


def test_correlations_of_trials_match_numpy() -> None:
    facts = gather(make_results())
    measured = [row for row in facts.rows if "latency_ratio" in row.metrics]
    for parameter in ("filter_pruner_70.desired_sparsity", "filter_pruner_60.desired_sparsity"):
        sparsities = [float(row.record.parameters[parameter]) for row in measured]
        for metric in ("latency_ratio", "top1", "top1_drop", "macs"):
            found = correlations(facts.rows)[parameter][metric]
            expected = np.corrcoef(sparsities, [row.metrics[metric] for row in measured])[0, 1]
            assert found.r == pytest.approx(expected, abs=1e-12)
            assert found.num_points == len(measured) == 19


def test_choices_have_means_instead() -> None:
    trials = [
        make_record(0, parameters={"a.b": "Filters", "c.d": 1}, top1=80.0),
        make_record(1, parameters={"a.b": "Channels", "c.d": 2}, top1=70.0),
        make_record(2, parameters={"a.b": "Filters", "c.d": 3}, top1=90.0),
    ]
    facts = gather(make_results(trials, study=make_study(parameters={"c.d": {"values": [1, 2, 3]}})))
    assert list(correlations(facts.rows)) == ["c.d"]
    means = means_by_value(facts.rows, facts.study)
    assert list(means) == ["a.b", "c.d"]
    assert [(m.value, m.num_trials, m.means["top1"]) for m in means["a.b"]] == [
        ("Channels", 1, 70.0),
        ("Filters", 2, 85.0),
    ]
    assert [m.value for m in means["c.d"]] == [1, 2, 3]


def test_metrics_keep_their_order() -> None:
    facts = gather(make_results())
    assert known_metrics(facts.rows)[:3] == ["latency_ratio", "device_latency_ratio", "total_latency_ms"]
    assert known_metrics([]) == []
