"""What becomes of each class: sensitivity and specificity of baselines and best trial, the worst classes first."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.report.comparison import TextTable, compared_names
from secateur.report.facts import Facts
from secateur.report.formats import ABSENT, metric_text
from secateur.results import Scores, TrialRecord

MAX_CLASSES = 20


def class_columns(facts: Facts) -> list[str]:
    """Return what stands above the columns of `class_lines`."""
    return [*(f"{name}: sensitivity, specificity %" for name in compared_names(facts)), "mostly taken for"]


def class_lines(facts: Facts) -> TextTable:
    """Return a line for each of the classes that the last of `compared_names` finds least.

    On test data if all have been tested, else on validation data; empty where nothing is known. The last column names
    the class that most of its images were wrongly taken for, and how many.
    """
    records = [row.record for row in facts.compared]
    tested = [record.test for record in records if record.test is not None and record.test.sensitivity]
    scores = tested if len(tested) == len(records) else [_validation(record) for record in records]
    if not scores or not (shown := scores[-1]).sensitivity:
        return []
    found = {label: share for label, share in enumerate(shown.sensitivity) if share is not None}
    worst = sorted(found, key=lambda label: found[label])[:MAX_CLASSES]
    names = _class_names(records, len(shown.sensitivity))
    return [(names[label], [*(_shares(s, label) for s in scores), _mistaken(shown, label, names)]) for label in worst]


def _class_names(records: Sequence[TrialRecord], num_classes: int) -> Sequence[str]:
    """Return what the tested networks' records call the classes, else their numbers."""
    named = (record.test.class_names for record in records if record.test is not None and record.test.class_names)
    return next(named, [f"class {label}" for label in range(num_classes)])


def _validation(record: TrialRecord) -> Scores:
    unknown = Scores(top1=0.0, top5=0.0, loss=0.0, num_images=0)
    return unknown if record.compressed is None else record.compressed.validation


def _shares(scores: Scores, label: int) -> str:
    both = [shares[label] if label < len(shares) else None for shares in (scores.sensitivity, scores.specificity)]
    return ", ".join(metric_text("top1", None if share is None else 100 * share) for share in both)


def _mistaken(scores: Scores, label: int, names: Sequence[str]) -> str:
    if scores.confusion is None:
        return ABSENT
    wrong = [0 if other == label else count for other, count in enumerate(scores.confusion[label])]
    return f"{names[wrong.index(max(wrong))]} ({max(wrong):,})" if max(wrong) else ABSENT
