"""The baselines, the best trial and the champion side by side."""

from __future__ import annotations

from collections.abc import Callable

from secateur.leaderboard import Row
from secateur.report.correlation import known_metrics
from secateur.report.facts import Facts, name_of
from secateur.report.formats import ABSENT, interval_text, metric_text, title_of
from secateur.results import LatencyReport, TrialRecord

TextTable = list[tuple[str, list[str]]]
"""Rows: a title, and one text for each column."""


def compared_names(facts: Facts) -> list[str]:
    """Return the names of what is compared."""
    return [name_of(row) for row in facts.compared]


def comparison(facts: Facts) -> TextTable:
    """Return every metric, and what else is known of quality and speed, for each of `compared_names`."""
    rows = facts.compared
    lines = [(title_of(name), [_metric(row, name) for row in rows]) for name in known_metrics(rows)]
    for title, read in _FURTHER.items():
        values = [read(row.record) for row in rows]
        if any(value is not None for value in values):
            lines.append((title, [ABSENT if value is None else value for value in values]))
    return lines


def _metric(row: Row, name: str) -> str:
    if name == "latency_ratio" and row.record.latency:
        return interval_text(row.record.latency.latency_ratio)
    return metric_text(name, row.metrics.get(name))


def _of_test(metric: str) -> Callable[[TrialRecord], str | None]:
    def read(record: TrialRecord) -> str | None:
        value = record.test.metrics[metric] if record.test else None
        return None if value is None else metric_text(metric, value)

    return read


def _of_latency(read: Callable[[LatencyReport], float]) -> Callable[[TrialRecord], str | None]:
    return lambda record: metric_text("latency_ms", read(record.latency)) if record.latency else None


_FURTHER: dict[str, Callable[[TrialRecord], str | None]] = {
    "test top1 %": _of_test("top1"),
    "test lowest sensitivity %": _of_test("min_class_sensitivity"),
    "test lowest specificity %": _of_test("min_class_specificity"),
    "test calibration error %": _of_test("calibration_error"),
    "total latency ms, p90": _of_latency(lambda latency: latency.total_latency_ms.p90),
    "compile ms": _of_latency(lambda latency: latency.compile_ms),
    "first inference ms": _of_latency(lambda latency: latency.first_inference_ms),
    "timed rounds": lambda record: f"{record.latency.num_rounds:,}" if record.latency else None,
    "validation images": lambda record: f"{record.compressed.validation.num_images:,}" if record.compressed else None,
    "test images": lambda record: f"{record.test.num_images:,}" if record.test else None,
}
