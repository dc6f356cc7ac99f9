"""The table of classes."""

from __future__ import annotations

import pytest

from secateur import results as recorded
from secateur.report import render_html, render_markdown
from secateur.report.classes import MAX_CLASSES, class_columns, class_lines
from secateur.report.facts import gather
from secateur.results import StudyResults, TrialRecord
from tests.factories import make_baselines, make_record, make_results

TESTED = {"top1": 80.0, "top5": 99.0, "loss": 0.5, "num_images": 30, "accessed_at": ("2026-11-22T20:00:00Z",)}


def with_test(record: TrialRecord, sensitivity: tuple[float | None, ...], **others: object) -> TrialRecord:
    shares = {"sensitivity": sensitivity, "specificity": (0.9,) * len(sensitivity)}
    return record.model_copy(update={"test": recorded.TestScores.model_validate({**TESTED, **shares, **others})})


def results(best: tuple[float | None, ...], **others: object) -> StudyResults:
    baselines = {name: with_test(record, (0.95,) * len(best)) for name, record in make_baselines().items()}
    return make_results([with_test(make_record(0, top1=90.5), best, **others)], baselines=baselines)


def test_the_classes_found_least_come_first() -> None:
    confusion = ((9, 1, 0), (0, 5, 5), (0, 0, 0))
    facts = gather(results((0.9, 0.5, None), confusion=confusion, calibration_error=7.125))
    assert class_columns(facts)[2:] == ["trial 0: sensitivity, specificity %", "mostly taken for"]
    assert class_lines(facts) == [
        ("class 1", ["95.00, 90.00", "95.00, 90.00", "50.00, 90.00", "class 2 (5)"]),
        ("class 0", ["95.00, 90.00", "95.00, 90.00", "90.00, 90.00", "class 1 (1)"]),
    ]


def test_classes_have_their_names_where_records_tell_them() -> None:
    confusion = ((9, 1, 0), (0, 5, 5), (0, 0, 0))
    lines = class_lines(gather(results((0.9, 0.5, None), confusion=confusion, class_names=("cat", "dog", "frog"))))
    assert [(name, texts[-1]) for name, texts in lines] == [("dog", "frog (5)"), ("cat", "dog (1)")]


@pytest.mark.parametrize("render", [render_html, render_markdown])
def test_the_report_shows_them(render: object) -> None:
    text = render(results((0.9, 0.5, 1.0), calibration_error=7.125))  # type: ignore[operator]
    assert "50.00, 90.00" in text
    assert "test lowest sensitivity %" in text
    assert "7.12" in text


def test_of_many_classes_the_worst_are_shown() -> None:
    lines = class_lines(gather(results(tuple(label / 1000 for label in range(1000)))))
    assert len(lines) == MAX_CLASSES
    assert lines[0][0] == "class 0"


def test_records_that_tell_no_classes_have_no_table() -> None:
    assert class_lines(gather(make_results([make_record(0)]))) == []
    assert "## Classes" not in render_markdown(make_results([make_record(0)]))
