"""What goes to stdout: one JSON document for machines, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from secateur.leaderboard import leaderboard
from secateur.results import UNPRUNED, StudyResults, TrialRecord, metrics_of

_WIDTH = 160
"""Of tables that go to a file or a pipe, in characters: nothing is broken in two there."""


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document."""
    json.dump(document, sys.stdout, indent=1)
    sys.stdout.write("\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns of numbers are aligned to the right."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        is_text = any(isinstance(row[i], str) and not _is_number(row[i]) for row in rows)
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else _WIDTH).print(table)


def _is_number(text: object) -> bool:
    return str(text).strip("-+0123456789.,[] %") == ""


def say(text: str) -> None:
    """Print a line for people."""
    Console(highlight=False, soft_wrap=True).print(text, markup=False)


def print_leaderboard(results: StudyResults, num_rows: int = 20) -> None:
    """Print the baselines and the best trials."""
    unpruned = results.baselines.get(UNPRUNED)
    rows = [_cells(label, "", record, metrics_of(record, unpruned)) for label, record in results.baselines.items()]
    ranked = leaderboard(results)
    rows += [_cells(r.record.label, "*" if r.is_on_front else "", r.record, r.metrics) for r in ranked[:num_rows]]
    print_table(f"{results.study['name']} (*: on the front)", _COLUMNS, rows)
    if len(ranked) > num_rows:
        say(f"... and {len(ranked) - num_rows} more")


_COLUMNS = ("trial", "", "state", "top1 %", "latency ratio", "95 % interval", "ms", "params", "MACs")


def _cells(label: str, mark: str, record: TrialRecord, metrics: Mapping[str, float]) -> tuple[str, ...]:
    ratio = record.latency.latency_ratio if record.latency else None
    return (
        label,
        mark,
        record.state,
        _format(metrics, "top1", ".2f"),
        f"{ratio.estimate:.3f}" if ratio else "-",
        f"[{ratio.low:.3f}, {ratio.high:.3f}]" if ratio else "-",
        _format(metrics, "total_latency_ms", ".3f"),
        _format(metrics, "num_params", ",.0f"),
        _format(metrics, "macs", ",.0f"),
    )


def _format(metrics: Mapping[str, float], name: str, spec: str) -> str:
    return format(metrics[name], spec) if name in metrics else "-"
