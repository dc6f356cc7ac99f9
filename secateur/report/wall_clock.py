"""Where every second between the first trial's beginning and the last one's end went, and what was saved."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from secateur.report.comparison import TextTable
from secateur.report.facts import Facts
from secateur.report.formats import duration_text
from secateur.results import TrialRecord

WAITING = "waiting and orchestration"
BETWEEN = "between batches"
NOT_RUNNING = "no sweep running"
_PAUSE_S = 600.0
"""A longer time without any trial is not one between two batches."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The parts add up to the whole."""

    parts: dict[str, float]
    """Phase, or reason for doing nothing -> seconds, the most first."""
    overlap: float
    """Seconds of work / seconds in which it was done: above 1 where work was done at once."""

    @property
    def total_s(self) -> float:
        """From the first trial's beginning to the last one's end."""
        return math.fsum(self.parts.values())


@dataclass(kw_only=True)
class _Span:
    """A time in which some trial was under way without interruption."""

    start: float
    end: float
    records: list[TrialRecord]


def account(facts: Facts) -> Account | None:
    """Share the time of a sweep out among its phases; None before anything has ended.

    Records tell when a trial began and ended, and how long each phase took, not when. So in each span in which trials
    were under way, their phases are added up: what is left of the span was waiting or orchestration, and where more
    work was done than there was time, at once, each phase gets its share. Proposing comes before a trial begins.
    """
    spans = _spans([record for record in facts.records if record.finished_at is not None])
    if not spans:
        return None
    parts: defaultdict[str, float] = defaultdict(float)
    work_s = worked_s = 0.0
    for span in spans:
        phases: defaultdict[str, float] = defaultdict(float)
        for phase, seconds in itertools.chain.from_iterable(map(_phases, span.records)):
            phases[phase] += seconds
        length, spent = span.end - span.start, math.fsum(phases.values())
        scale = min(1.0, length / spent) if spent else 0.0
        for phase, seconds in phases.items():
            parts[phase] += seconds * scale
        parts[WAITING] += max(length - spent, 0.0)
        work_s, worked_s = work_s + spent, worked_s + spent * scale
    gaps = [after.start - before.end for before, after in itertools.pairwise(spans)]
    parts[NOT_RUNNING] = math.fsum(gap for gap in gaps if gap > _PAUSE_S)
    between = math.fsum(gap for gap in gaps if gap <= _PAUSE_S)
    proposing = min(between, math.fsum(_finite(record.seconds.get("propose", 0.0)) for record in facts.records))
    parts["propose"] += proposing
    parts[BETWEEN] = between - proposing
    ordered = sorted(parts.items(), key=lambda part: -part[1])
    return Account(
        parts={name: seconds for name, seconds in ordered if seconds > 0},
        overlap=work_s / worked_s if worked_s else 1.0,
    )


def _spans(records: Sequence[TrialRecord]) -> list[_Span]:
    spans: list[_Span] = []
    for start, end, record in sorted(
        ((_time(r.created_at), _time(r.finished_at or r.created_at), r) for r in records), key=lambda timed: timed[:2]
    ):
        if spans and start <= spans[-1].end:
            spans[-1].end = max(spans[-1].end, end)
            spans[-1].records.append(record)
        else:
            spans.append(_Span(start=start, end=max(start, end), records=[record]))
    return spans


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _phases(record: TrialRecord) -> Iterator[tuple[str, float]]:
    """Yield what a trial took, compressing in its parts where it was not reused."""
    inner = {} if record.is_reused or record.compressed is None else record.compressed.seconds
    known = math.fsum(map(_finite, inner.values()))
    for phase, seconds in record.seconds.items():
        if phase == "compress" and 0 < known <= seconds:
            yield from ((part, _finite(s)) for part, s in inner.items())
            yield "compress, the rest", _finite(seconds) - known
        elif phase != "propose":
            yield phase, _finite(seconds)


def _finite(seconds: float) -> float:
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def savings(facts: Facts) -> TextTable:
    """Return what was not done because its outcome was known, or could not matter: how often, and about how long."""
    trials = [row.record for row in facts.rows]
    epoch_s = [e.duration_s for r in facts.records if r.compressed for e in r.compressed.epochs if e.epoch >= 0]
    typical_s = statistics.median(epoch_s) if epoch_s else 0.0
    planned = facts.study.training.epochs
    gated = [r for r in trials if r.state == "gated"]
    stopped = [r for r in trials if r.state == "stopped"]
    num_gated = sum(_num_planned(r, planned) for r in gated)
    num_spared = sum(max(_num_planned(r, planned) - _num_epochs(r), 0) for r in stopped)
    reused = [r for r in trials if r.is_reused and r.compressed]
    reused_s = math.fsum(
        math.fsum(r.compressed.seconds.values()) - r.seconds.get("compress", 0.0) for r in reused if r.compressed
    )
    measured = [r for r in trials if r.latency and r.latency.is_reused]
    measure_s = [r.seconds.get("measure", 0.0) for r in trials if r.latency and not r.latency.is_reused]
    rows = [
        ("gated, never trained", len(gated), num_gated, num_gated * typical_s),
        ("training stopped early", len(stopped), num_spared, num_spared * typical_s),
        ("network known from an equal candidate", len(reused), 0, reused_s),
        (
            "latency known from an equal architecture",
            len(measured),
            0,
            len(measured) * (statistics.median(measure_s) if measure_s else 0.0),
        ),
    ]
    return [
        (what, [f"{num:,}", f"{num_epochs:,}", duration_text(max(seconds, 0.0))])
        for what, num, num_epochs, seconds in rows
        if num
    ]


def _num_planned(record: TrialRecord, planned: int) -> int:
    return int(record.parameters.get("training.epochs", planned))  # the study's own number, unless it was searched


def _num_epochs(record: TrialRecord) -> int:
    return sum(epoch.epoch >= 0 for epoch in record.compressed.epochs) if record.compressed else 0


def gate_text(facts: Facts) -> str:
    """Return how often the gate was wrong, as far as trials show that were trained in spite of it; empty without."""
    audited = [row for row in facts.rows if row.record.gate and row.record.gate.is_audit and row.record.is_usable]
    if not audited:
        return ""
    num_wrong = sum(row.is_on_front for row in audited)
    return (
        f"The gate was wrong about {num_wrong:,} of {len(audited):,} trials that it would have left out and that were"
        " trained all the same: so many ended on the front."
    )
