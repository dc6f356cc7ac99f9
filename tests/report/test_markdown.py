"""The Markdown report and the plain rows."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

import secateur.report
from secateur.report import leaderboard_rows, render_markdown, summary_line
from secateur.report.markdown import MAX_BYTES
from secateur.results import Failure, StudyResults
from tests.factories import make_record, make_results
from tests.report.test_page import CASES


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of every table, header and rule included."""
    found: list[list[list[str]]] = []
    is_inside = False
    for line in text.splitlines():
        if line.startswith("| "):
            assert line.endswith(" |")
            if not is_inside:
                found.append([])
            found[-1].append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        is_inside = line.startswith("| ")
    return found


@pytest.mark.parametrize("results", CASES.values(), ids=CASES.keys())
def test_tables_are_well_formed(results: StudyResults) -> None:
    text = render_markdown(results)
    for table in tables(text):
        assert len({len(cells) for cells in table}) == 1
        assert {re.fullmatch(r"---:?", cell) is not None for cell in table[1]} == {True}
    assert not re.search(r"\b(nan|inf|None)\b", text, re.IGNORECASE)
    assert text.startswith("# resnet20-cifar10\n\n**")


def test_best_trials_stand_below_the_baselines() -> None:
    trials = tables(render_markdown(CASES["usual"]))[0]
    header, _, unpruned, off_the_shelf, best, *_ = [dict(zip(trials[0], cells, strict=True)) for cells in trials]
    assert set(header) >= {"trial", "state", "settings", "latency ratio", "top1 %", "seconds"}
    assert [row["trial"] for row in (unpruned, off_the_shelf, best)] == ["unpruned", "off the shelf", "5"]
    assert best["latency ratio"] == "0.528 [0.526, 0.531]"
    assert best["settings"].startswith("filter_pruner_70 0.8567, filter_pruner_60 0.2579")


def test_long_studies_are_cut_to_the_best() -> None:
    text = render_markdown(CASES["hundreds"])
    assert len(tables(text)[0]) == 2 + 2 + 50
    assert "and 350 more trials, in the HTML report" in text
    assert len(text.encode()) < 100_000


def test_text_never_exceeds_the_limit() -> None:
    failure = Failure(phase="train", type="E", message="ü" * 100_000)
    parameters = {f"parameter_{i}.{'x' * 200}": "ü" * 1000 for i in range(2000)}
    failed = [make_record(i, state="failed", failure=failure, parameters=parameters) for i in range(30)]
    text = render_markdown(make_results([*failed, make_record(30, parameters=parameters)]))
    assert len(text.encode()) <= MAX_BYTES
    assert text.endswith("(cut here: the HTML report holds everything)\n")


def test_markup_in_records_is_text() -> None:
    evil = "a | b\n# c <img src=x> [d](http://e) `f` *g*"
    failed = make_record(
        0, state="failed", failure=Failure(phase="p", type="T", message=evil), parameters={"x.y": evil}
    )
    text = render_markdown(make_results([failed]))
    assert r"a \| b # c &lt;img src=x> [d\](http://e) \`f\` \*g\*" in text
    assert "<img" not in text
    for table in tables(text):
        assert len({len(cells) for cells in table}) == 1


def test_rows_are_plain_json_best_first() -> None:
    rows = leaderboard_rows(CASES["usual"])
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert len(rows) == 22
    assert len({tuple(row) for row in rows}) == 1
    assert rows[0]["trial"] == "5"
    assert rows[0]["is_on_front"] is True
    assert rows[0]["latency_ratio_low"] < rows[0]["latency_ratio"] < rows[0]["latency_ratio_high"]
    assert rows[0]["filter_pruner_70.desired_sparsity"] == 0.8567
    failed = next(row for row in rows if row["trial"] == "4")
    assert failed["top1"] is None
    assert failed["failure"].startswith("MeasurementError: The runner was silent")


def test_rows_hold_no_nan() -> None:
    (row,) = leaderboard_rows(make_results([make_record(0, parameters={"a.b": float("nan")})]))
    assert row["a.b"] is None


@pytest.mark.parametrize("results", CASES.values(), ids=CASES.keys())
def test_summary_is_one_line(results: StudyResults) -> None:
    line = summary_line(results)
    assert "\n" not in line
    assert line.startswith(f"resnet20-cifar10: {len(results.trials)} trial")


def test_markdown_needs_neither_plotly_nor_matplotlib() -> None:
    code = (
        "import sys, secateur.report.markdown; from secateur.report import leaderboard_rows;"
        "assert not {'plotly', 'matplotlib', 'torch', 'ax'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"module 'secateur.report' has no attribute 'render_pdf'"):
        _ = secateur.report.render_pdf
