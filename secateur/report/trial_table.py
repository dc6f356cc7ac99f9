"""The page's table of trials, as HTML; whatever comes from a record is escaped here."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secateur.leaderboard import Row
from secateur.report.facts import KINDS, Facts, Kind, kind_of, name_of
from secateur.report.formats import ABSENT, interval_text, metric_text, parameter_text, title_of
from secateur.report.tables import breakable


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: what it says (HTML), and what it is sorted by; None comes last."""

    text: str
    sort_by: float | str | None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table."""

    title: str
    cell: Callable[[Row], Cell]
    is_number: bool = True


def trial_table(facts: Facts) -> str:
    """Return all trials, baselines on top; a script sorts them by any column."""
    columns = _columns(facts)
    head = "".join(_header(number, column) for number, column in enumerate(columns))
    bodies = "".join(
        f'<tbody class="{name}">{"".join(_row(row, columns) for row in rows)}</tbody>'
        for name, rows in (("baselines", facts.baselines), ("trials", facts.rows))
    )
    return (
        '<table id="trials" class="wide"><caption class="hidden">All trials, best first; the headers sort</caption>'
        f"<thead><tr>{head}</tr></thead>{bodies}</table>"
    )


def _columns(facts: Facts) -> list[Column]:
    quality = ("top1", "top1_drop", "latency_ratio", "total_latency_ms", "latency_ms")
    size = ("num_params", "macs", "size_bytes")
    wanted = [*facts.objectives, *(c.metric for c in facts.study.search.parsed_constraints)]
    others = [name for name in dict.fromkeys(wanted) if name not in {*quality, *size}]
    return [
        Column(title="trial", cell=_label, is_number=False),
        Column(title="state", cell=lambda row: _state(row, facts), is_number=False),
        *(_metric_column(name) for name in (*others, *quality)),
        Column(title="test top1 %", cell=_test_top1),
        *(_parameter_column(name, short) for name, short in facts.names.items()),
        *(_metric_column(name) for name in size),
        Column(title="seconds", cell=_seconds),
        Column(title="method", cell=_method, is_number=False),
    ]


def _metric_column(metric: str) -> Column:
    def cell(row: Row) -> Cell:
        value = row.metrics.get(metric)
        text = metric_text(metric, value)
        if metric == "latency_ratio" and value is not None and row.record.latency:
            text, _, interval = interval_text(row.record.latency.latency_ratio).partition(" ")
            text += f" <small>{interval}</small>"
        return Cell(text=text, sort_by=value)

    return Column(title=title_of(metric), cell=cell)


def _parameter_column(name: str, title: str) -> Column:
    def cell(row: Row) -> Cell:
        value = row.record.parameters.get(name)
        return Cell(text=ABSENT if value is None else html.escape(parameter_text(value)), sort_by=value)

    return Column(title=title, cell=cell)


def _label(row: Row) -> Cell:
    label = row.record.label
    return Cell(
        text=html.escape(name_of(row).removeprefix("trial ")),
        sort_by=int(label) if label.isdecimal() else label,
    )


def _state(row: Row, facts: Facts) -> Cell:
    kind = kind_of(row)
    words = {"feasible": "completed", "unpruned": "baseline", "off_the_shelf": "baseline", "pending": row.record.state}
    if len(facts.objectives) == 1:
        words["front"] = "best"
    kinds: list[Kind] = [kind, "front"] if row.is_on_front and kind != "front" else [kind]
    text = " ".join(f'<span class="badge {k}" title="{facts.words[k]}">{words.get(k, k)}</span>' for k in kinds)
    if row.record.is_reused:
        text += " <small>reused</small>"
    for label, relation in ((row.record.same_as, "same network as"), (row.record.replicate_of, "repeats")):
        if label is not None:
            text += f" <small>{relation} {html.escape(label)}</small>"
    return Cell(text=text, sort_by=list(KINDS).index(kind))


def _method(row: Row) -> Cell:
    remark = f" <small>{html.escape(row.record.remark)}</small>" if row.record.remark else ""
    return Cell(text=html.escape(row.record.method) + remark, sort_by=row.record.method)


def _test_top1(row: Row) -> Cell:
    value = row.record.test.top1 if row.record.test else None
    return Cell(text=metric_text("top1", value), sort_by=value)


def _seconds(row: Row) -> Cell:
    spent = math.fsum(row.record.seconds.values())
    is_known = bool(row.record.seconds) and math.isfinite(spent)
    return Cell(text=f"{spent:,.1f}" if is_known else ABSENT, sort_by=spent if is_known else None)


def _header(number: int, column: Column) -> str:
    kind = ' class="number"' if column.is_number else ""
    button = f'<button type="button" data-column="{number}">{breakable(column.title)}</button>'
    return f'<th scope="col"{kind}>{button}</th>'


def _row(row: Row, columns: Sequence[Column]) -> str:
    cells = "".join(_cell(column.cell(row), column, is_first=column is columns[0]) for column in columns)
    names = dict.fromkeys([kind_of(row), *(["front"] if row.is_on_front else [])])
    return f'<tr class="{" ".join(names)}" data-label="{html.escape(row.record.label)}">{cells}</tr>\n'


def _cell(cell: Cell, column: Column, *, is_first: bool) -> str:
    value = cell.sort_by
    is_sortable = value is not None and (isinstance(value, str) or math.isfinite(value))
    key = f' data-value="{html.escape(str(value))}"' if is_sortable else ""
    kind = ' class="number"' if column.is_number else ""
    if is_first:
        return f'<th scope="row"{key}>{cell.text}</th>'
    return f"<td{kind}{key}>{cell.text}</td>"
