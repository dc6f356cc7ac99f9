"""How figures are written."""

from __future__ import annotations

import pytest

from secateur.report.formats import ABSENT, duration_text, interval_text, metric_text, parameter_text, short_names
from secateur.results import Interval


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("top1", 90.123, "90.12"),
        ("top1_drop", -0.001, "0.00"),
        ("latency_ratio", 0.57, "0.570"),
        ("total_latency_ms", 1234.5, "1,234.500"),
        ("num_params", 272474.0, "272,474"),
        ("size_bytes", 1_103_400.0, "1,103.4"),
        ("loss", 0.33, "0.3300"),
        ("sensitivity", 0.98765432, "0.9877"),
        ("top1", 1e300, "1e+300"),
        ("top1", float("nan"), ABSENT),
        ("top1", float("inf"), ABSENT),
        ("top1", None, ABSENT),
    ],
)
def test_metrics(metric: str, value: float | None, text: str) -> None:
    assert metric_text(metric, value) == text


def test_intervals() -> None:
    assert interval_text(Interval(estimate=0.57, low=0.566, high=0.574, standard_error=0.002)) == "0.570 [0.566, 0.574]"
    assert interval_text(Interval(estimate=0.57, low=0.5, high=float("inf"), standard_error=1.0)) == "0.570"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.40 s"), (31, "31.0 s"), (725, "12 min 05 s"), (11_220, "3 h 07 min"), (float("nan"), ABSENT)],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_parameters() -> None:
    assert [parameter_text(v) for v in (0.123456, 7, "Filters", float("nan"))] == ["0.1235", "7", "Filters", ABSENT]


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["a.sparsity", "b.sparsity"], ["a", "b"]),
        (["a.sparsity", "b.sparsity", "a.type"], ["a", "b", "a.type"]),
        (["blocks.layer1", "blocks.layer2"], ["blocks.layer1", "blocks.layer2"]),
        (["a.sparsity"], ["a"]),
        (["a", "a.b", "c.b"], ["a", "a.b", "c.b"]),
        ([], []),
    ],
)
def test_names_are_shortened_where_that_is_clear(names: list[str], short: list[str]) -> None:
    assert list(short_names(names).values()) == short
