"""The report as Markdown: the same facts in little room, for a terminal, a pull request or a Prefect artifact."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from secateur.leaderboard import Row
from secateur.report.chart import Figure
from secateur.report.circumstances import device_text, devices, phase_times, versions
from secateur.report.classes import class_columns, class_lines
from secateur.report.comparison import compared_names, comparison
from secateur.report.correlation import correlation_text, correlations, known_metrics, means_by_value
from secateur.report.facts import Facts, gather, kind_of, name_of
from secateur.report.formats import (
    ABSENT,
    duration_text,
    interval_text,
    metric_text,
    parameter_text,
    title_of,
)
from secateur.report.headline import constraint_text, count_text, headline
from secateur.report.wall_clock import gate_text, savings
from secateur.results import StudyResults

MAX_BYTES = 450_000
"""Prefect refuses an artifact somewhat larger."""
_MAX_TRIALS = 50
_MAX_FAILURES = 20
_MAX_CELL, _MAX_ALTERNATIVE = 300, 1500
_MARKUP = re.compile(r"[\\`*|~]|\](?=[(\[:])|(?<!\w)_|_(?!\w)")
"""What Markdown would read as more than text: a bracket only where a link could follow, ``_`` only around words."""
_METRICS = ("top1", "top1_drop", "latency_ratio", "total_latency_ms", "latency_ms", "num_params", "macs", "size_bytes")


def render_markdown(results: StudyResults, figures: Sequence[Figure] = ()) -> str:
    """Return the report of a study as GitHub-flavoured Markdown of at most `MAX_BYTES`; the best trials come first.

    Args:
        results: All records of the study.
        figures: Those that stand as ``<name>.png`` beside it; without any, the Markdown stands alone.
    """
    facts = gather(results)
    found = devices(facts)
    sections = {
        f"# {_escape(facts.study.name)}": [
            f"**{_escape(headline(facts))}**",
            "",
            f"- {_escape(f'{facts.study.model} on {facts.study.dataset.name}')}",
            *(f"- measured on {_escape(device_text(device))}" for device in found),
            f"- {_escape(count_text(facts))}",
            *(f"- wanted: {_escape(text)}" for text in constraint_text(facts)),
        ],
        "## Trials": _trials(facts),
        "## Baselines and best trial": _comparison(facts),
        "## Classes": _classes(facts),
        **{f"## {_escape(figure.title)}": _image(figure) for figure in figures},
        "## Correlation of parameters and metrics": _correlations(facts),
        **_means(facts),
        "## Time spent on trials": _phases(facts),
        "## What was saved": _savings(facts),
        "## Failed trials": _failures(facts),
        "## Versions": [_escape(", ".join(f"{name} {version}" for name, version in versions(facts).items()))],
    }
    lines = [line for title, content in sections.items() if any(content) for line in (title, "", *content, "")]
    return _cut("\n".join(lines))


def _cut(text: str) -> str:
    data = text.encode()
    if len(data) <= MAX_BYTES:
        return text
    note = "\n\n(cut here: the HTML report holds everything)\n"
    whole_lines, _, _ = data[: MAX_BYTES - len(note)].rpartition(b"\n")
    return whole_lines.decode(errors="ignore") + note


def _image(figure: Figure) -> list[str]:
    alternative = _escape(figure.description, _MAX_ALTERNATIVE)
    return [f"![{alternative}]({figure.name}.png)", "", _escape(f"{figure.reading} {figure.note}".strip())]


def _trials(facts: Facts) -> list[str]:
    if not facts.rows and not facts.baselines:
        return []
    shown = facts.rows[:_MAX_TRIALS]
    metrics = [m for m in dict.fromkeys((*facts.objectives, *_METRICS)) if any(m in row.metrics for row in facts.rows)]
    columns = ["trial", "state", "settings", *(title_of(m) for m in metrics), "test top1 %", "seconds"]
    table = _table(columns, [_trial_cells(row, facts, metrics) for row in (*facts.baselines, *shown)], num_left=3)
    more = len(facts.rows) - len(shown)
    return [*table, "", f"and {more:,} more trials, in the HTML report"] if more else table


def _trial_cells(row: Row, facts: Facts, metrics: Sequence[str]) -> list[str]:
    record = row.record
    state = facts.words[kind_of(row)] if record.method != "baseline" else "baseline"
    is_doubtful_front = row.is_on_front and kind_of(row) != "front"
    return [
        name_of(row).removeprefix("trial "),
        f"{state}, {facts.words['front']}" if is_doubtful_front else state,
        ", ".join(f"{name} {value}" for name, value in facts.settings(record).items()),
        *(_metric(row, metric) for metric in metrics),
        metric_text("top1", record.test.top1) if record.test else ABSENT,
        f"{spent:,.1f}" if math.isfinite(spent := math.fsum(record.seconds.values())) and spent else ABSENT,
    ]


def _metric(row: Row, metric: str) -> str:
    if metric == "latency_ratio" and row.record.latency and metric in row.metrics:
        return interval_text(row.record.latency.latency_ratio)
    return metric_text(metric, row.metrics.get(metric))


def _comparison(facts: Facts) -> list[str]:
    lines = comparison(facts)
    return _table(["", *compared_names(facts)], [[title, *cells] for title, cells in lines]) if lines else []


def _classes(facts: Facts) -> list[str]:
    lines = class_lines(facts)
    return _table(["", *class_columns(facts)], [[title, *cells] for title, cells in lines]) if lines else []


def _correlations(facts: Facts) -> list[str]:
    found = correlations(facts.sampled)
    metrics = known_metrics(facts.sampled)
    if not found or not metrics:
        return []
    rows = [
        [parameter, *(ABSENT if of_metric[m].r is None else correlation_text(of_metric[m]) for m in metrics)]
        for parameter, of_metric in found.items()
    ]
    return _table(["parameter", *(title_of(m) for m in metrics)], rows)


def _means(facts: Facts) -> dict[str, list[str]]:
    metrics = known_metrics(facts.usable)
    return {
        f"## Mean by value of {_escape(parameter)}": _table(
            ["value", "trials", *(title_of(m) for m in metrics)],
            [
                [parameter_text(e.value), f"{e.num_trials:,}", *(metric_text(m, e.means.get(m)) for m in metrics)]
                for e in means
            ],
        )
        for parameter, means in means_by_value(facts.usable, facts.study).items()
    }


def _phases(facts: Facts) -> list[str]:
    times = phase_times(facts)
    rows = [[t.phase, duration_text(t.total_s), f"{t.share:.0%}", duration_text(t.median_s)] for t in times]
    return _table(["phase", "total", "share", "median of a trial"], rows) if rows else []


def _savings(facts: Facts) -> list[str]:
    table = _table(["", "trials", "epochs", "about"], [[what, *cells] for what, cells in savings(facts)])
    return [*(table if len(table) > 2 else []), "", _escape(gate_text(facts))]


def _failures(facts: Facts) -> list[str]:
    failed = [row.record for row in facts.in_order if row.record.failure]
    lines = [
        f"- trial {_escape(record.label)}, {_escape(f.phase)}: {_escape(f.type)}: {_escape(f.message)}"
        for record in failed[:_MAX_FAILURES]
        if (f := record.failure)
    ]
    more = len(failed) - len(lines)
    return [*lines, f"- and {more:,} more"] if more else lines


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, num_left: int = 1) -> list[str]:
    """Return a table whose first `num_left` columns are texts, the others figures."""
    rule = ["---" if i < num_left else "---:" for i in range(len(columns))]
    cells = [[_escape(cell) for cell in row] for row in (columns, *rows)]
    return [f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:])]


def _escape(text: str, limit: int = _MAX_CELL) -> str:
    """Write text so that Markdown and HTML show it as it is, on one line, and cut what is very long."""
    line = " ".join(text.split())
    if len(line) > limit:
        line = f"{line[:limit]}…"
    without_html = line.replace("&", "&amp;").replace("<", "&lt;")
    return _MARKUP.sub(r"\\\g<0>", without_html)
