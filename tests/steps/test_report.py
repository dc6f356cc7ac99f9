"""The report in the store: which files there are, and that the optimiser's model is asked once."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from secateur.insight import Insight, NoInsight
from secateur.results import StudyResults
from secateur.search.insight import modelled
from secateur.steps import report
from secateur.store import StudyFiles
from tests.factories import make_results
from tests.fakes import MemoryStore

RESULTS = make_results()


@pytest.fixture
def files() -> StudyFiles:
    files = StudyFiles(MemoryStore(), RESULTS.study["name"])
    files.write_study_yaml(yaml.safe_dump(RESULTS.study))
    return files


def test_a_sweep_leaves_page_markdown_first_image_and_table(files: StudyFiles) -> None:
    report.write_report(files, RESULTS)
    contents = files.read_report()
    expected = {"report.html", "report.md", "trade-off.png", "trials.csv"}
    assert contents.keys() - {"trials.parquet"} == expected
    assert ("trials.parquet" in contents) == (importlib.util.find_spec("pyarrow") is not None)
    assert contents["report.html"].startswith(b"<!DOCTYPE html>")
    assert b"](trade-off.png)" in contents["report.md"]


def test_all_images_are_drawn_where_they_are_asked_for_and_gone_when_not(
    files: StudyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.report.render_png", lambda figure: figure.name.encode())
    report.write_report(files, RESULTS, has_all_images=True)
    assert {"progress.png", "parallel.png", "wall-clock.png"} <= files.read_report().keys()
    report.write_report(files, RESULTS)
    assert [name for name in files.read_report() if name.endswith(".png")] == ["trade-off.png"]


def test_the_model_is_asked_around_the_best_trial_and_again_only_of_more_trials(
    files: StudyFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Mapping[str, Any]] = []

    def ask(results: StudyResults, center: Mapping[str, Any]) -> Insight:
        asked.append(center)
        num = len(modelled(results))
        return Insight(num_trials=num, num_modelled=num, importance={}, slices=(), contours=())

    monkeypatch.setattr(report, "ask_for_insight", ask)
    first = report.insight_of(files, RESULTS)
    assert report.insight_of(files, RESULTS) == first
    assert asked == [RESULTS.trials[5].parameters]
    report.insight_of(files, make_results(num_trials=40))
    assert len(asked) == 2


def test_no_model_is_not_kept(files: StudyFiles) -> None:
    assert isinstance(report.insight_of(files, RESULTS), NoInsight)
    assert files.read_insight() is None
