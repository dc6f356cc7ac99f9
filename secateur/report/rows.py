"""Trials as plain rows, for table artifacts and ``--json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from secateur.insight import Insight
from secateur.leaderboard import Row
from secateur.report.facts import gather
from secateur.report.headline import count_text, headline
from secateur.results import StudyResults


def leaderboard_rows(results: StudyResults) -> list[dict[str, Any]]:
    """Return one flat mapping of plain JSON values for each trial, best first.

    Every row has the same keys; what is not known is None. Parameters stand under their own names, ``entry.field``.
    """
    return _rows(gather(results).rows)


def record_rows(results: StudyResults) -> list[dict[str, Any]]:
    """Return the same of all records, the baselines first."""
    facts = gather(results)
    return _rows([*facts.baselines, *facts.rows])


def summary_line(results: StudyResults) -> str:
    """Return the study's state and result in one line."""
    facts = gather(results)
    return f"{facts.study.name}: {count_text(facts)}. {headline(facts)}"


def importance_rows(insight: Insight) -> list[dict[str, Any]]:
    """Return one row for each parameter: its total Sobol index for each metric, the most important parameter first."""
    names = dict.fromkeys(name for of_metric in insight.importance.values() for name in of_metric)
    rows = [
        {"parameter": name, **{metric: of_metric[name].total for metric, of_metric in insight.importance.items()}}
        for name in names
    ]
    return sorted(rows, key=lambda row: -max(row[metric] for metric in insight.importance))


def _rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    found = [_row(row) for row in rows]
    keys = dict.fromkeys(key for row in found for key in row)
    return [{key: row.get(key) for key in keys} for row in found]


def _row(row: Row) -> dict[str, Any]:
    record = row.record
    ratio = record.latency.latency_ratio if record.latency else None
    fixed: dict[str, Any] = {
        "trial": record.label,
        "state": record.state,
        "method": record.method,
        "is_on_front": row.is_on_front,
        "is_feasible": row.is_feasible,
        "latency_ratio": None,
        "latency_ratio_low": _finite(ratio.low if ratio else None),
        "latency_ratio_high": _finite(ratio.high if ratio else None),
        "test_top1": _finite(record.test.top1 if record.test else None),
        "seconds": _finite(math.fsum(record.seconds.values())),
        "failure": f"{record.failure.type}: {record.failure.message}" if record.failure else None,
    }
    parameters = {k: v if isinstance(v, str) else _finite(v) for k, v in record.parameters.items()}
    metrics = {name: _finite(value) for name, value in row.metrics.items()}
    return fixed | metrics | {name: value for name, value in parameters.items() if name not in fixed}


def _finite(value: float | None) -> float | None:
    """Replace what JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None
