"""How figures are written: top1 with 2 decimals, ratios and milliseconds with 3, counts with thousands separators.

A figure that is absent, infinite or NaN is written `ABSENT`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from secateur.results import Interval

ABSENT = "–"  # noqa: RUF001 (an en dash is what a table wants)

TITLES = {
    "latency_ratio": "latency ratio",
    "device_latency_ratio": "device latency ratio",
    "total_latency_ms": "total latency ms",
    "latency_ms": "device latency ms",
    "top1": "top1 %",
    "top5": "top5 %",
    "top1_drop": "top1 drop",
    "loss": "loss",
    "min_class_sensitivity": "lowest sensitivity %",
    "min_class_specificity": "lowest specificity %",
    "calibration_error": "calibration error %",
    "num_params": "params",
    "macs": "MACs",
    "size_bytes": "size kB",
}
"""Metrics as people read them; a study's own metrics keep their names."""

_DECIMALS = {
    "latency_ratio": 3,
    "device_latency_ratio": 3,
    "total_latency_ms": 3,
    "latency_ms": 3,
    "top1": 2,
    "top5": 2,
    "top1_drop": 2,
    "loss": 4,
    "min_class_sensitivity": 2,
    "min_class_specificity": 2,
    "calibration_error": 2,
    "num_params": 0,
    "macs": 0,
    "size_bytes": 1,
}
_PLAIN = 1e15
"""Above it, a figure is written with an exponent."""


def title_of(metric: str) -> str:
    """Return what stands above a column of `metric`."""
    return TITLES.get(metric, metric)


def metric_text(metric: str, value: float | None) -> str:
    """Write one value of `metric`, without its unit; bytes as kB."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if metric not in _DECIMALS or abs(value) >= _PLAIN:
        return f"{value:.4g}"
    text = f"{value / 1000 if metric == 'size_bytes' else value:,.{_DECIMALS[metric]}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text  # no "-0.00"


def interval_text(interval: Interval) -> str:
    """Write a ratio with its 95 % interval: ``0.570 [0.566, 0.574]``; without it where it is not finite."""
    low, high = (metric_text("latency_ratio", v) for v in (interval.low, interval.high))
    estimate = metric_text("latency_ratio", interval.estimate)
    return estimate if ABSENT in {low, high, estimate} else f"{estimate} [{low}, {high}]"


def parameter_text(value: float | str) -> str:
    """Write a parameter's value: four significant digits, whole numbers as they are."""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ABSENT
    return str(value)


def duration_text(seconds: float) -> str:
    """Write a duration: ``0.42 s``, ``31.0 s``, ``12 min 05 s``, ``3 h 07 min``."""
    if not math.isfinite(seconds):
        return ABSENT
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return parameters' names without the field where that is clear enough.

    The field that most parameters share goes (``filter_pruner_70.desired_sparsity`` -> ``filter_pruner_70``), and that
    of an entry with one parameter only.
    """
    parts = {name: name.partition(".") for name in names}
    fields = Counter(field for _, _, field in parts.values())
    entries = Counter(entry for entry, _, _ in parts.values())
    shared = max(fields, key=lambda field: fields[field], default="")
    short = {
        name: entry if entries[entry] == 1 or (field == shared and fields[field] > 1) else name
        for name, (entry, _, field) in parts.items()
    }
    return short if len(set(short.values())) == len(short) else {name: name for name in names}
