"""A study's result in words."""

from __future__ import annotations

from collections import Counter

from secateur.config import Constraint
from secateur.leaderboard import Row
from secateur.report.facts import Facts, name_of
from secateur.report.formats import interval_text, metric_text, title_of
from secateur.results import OFF_THE_SHELF

_DOUBTS = {"noisy": ", and its measurement was noisy", "suspect": ", but it predicts one class only"}


def count_text(facts: Facts) -> str:
    """Return the number of trials by state: ``64 trials: 60 completed, 3 failed, 1 noisy``."""
    states = Counter(row.record.state for row in facts.rows)
    total = len(facts.rows)
    by_state = ", ".join(f"{number:,} {state}" for state, number in states.most_common())
    return f"{total:,} trial{'' if total == 1 else 's'}" + (f": {by_state}" if total else "")


def headline(facts: Facts) -> str:
    """Return the result in one sentence: the best trial against unpruned and off-the-shelf, or why there is none."""
    if facts.best is None:
        return _no_result(facts)
    doubt = _DOUBTS.get(facts.best.record.state, "")
    text = _capital(name_of(facts.best)) + _against_unpruned(facts.best, facts) + doubt
    off_the_shelf = facts.baseline(OFF_THE_SHELF)
    if off_the_shelf and (figures := _figures(off_the_shelf)):
        text += f"; the off-the-shelf setting stands at {figures}"
    return f"{text}."


def _no_result(facts: Facts) -> str:
    states = Counter(row.record.state for row in facts.rows)
    if not facts.rows:
        return "There are no trials yet."
    if states["failed"] == len(facts.rows):
        return "No trial has a result: every one failed."
    if not facts.usable:
        return "No trial has a result yet."
    if unknown := [text for text, bound in facts.bounds.items() if bound is None]:
        return f"Whether {' and '.join(unknown)} holds is not known before the baseline is."
    wanted = " and ".join(constraint_text(facts)) or "what the study asks for"
    return f"No trial satisfies {wanted} yet."


def constraint_text(facts: Facts) -> list[str]:
    """Return each constraint, with its number if that is relative: ``top1 >= baseline - 1.0 (89.10)``."""
    texts = []
    for text, bound in facts.bounds.items():
        constraint = Constraint.parse(text)
        is_relative = constraint.reference is not None and bound is not None
        texts.append(f"{text} ({metric_text(constraint.metric, bound)})" if is_relative else text)
    return texts


def _against_unpruned(row: Row, facts: Facts) -> str:
    latency = row.record.latency
    text = f" takes {interval_text(latency.latency_ratio)} of the unpruned network's latency" if latency else ""
    if "top1" in row.metrics:
        text += f"{' at' if text else ' reaches'} {metric_text('top1', row.metrics['top1'])} % top1"
        if "top1_drop" in row.metrics:
            drop = row.metrics["top1_drop"]
            text += f", {metric_text('top1', abs(drop))} points {'below' if drop >= 0 else 'above'} it"
    others = [name for name in facts.objectives if name not in {"latency_ratio", "top1", "top1_drop"}]
    known = [f"{title_of(n)} {metric_text(n, row.metrics[n])}" for n in others if n in row.metrics]
    return text + (f" ({', '.join(known)})" if known else "")


def _figures(row: Row) -> str:
    latency = row.record.latency
    parts = [interval_text(latency.latency_ratio)] if latency else []
    if "top1" in row.metrics:
        parts.append(f"{metric_text('top1', row.metrics['top1'])} %")
    return " and ".join(parts)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
