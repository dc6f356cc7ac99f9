"""What Ax makes of a study; above all, that nobody waits for it or fails with it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest

from secateur.insight import Insight, NoInsight
from secateur.results import StudyResults
from secateur.search.insight import MAX_TRIALS, Question, ask_for_insight, is_current, modelled
from tests.factories import make_record, make_results

RESULTS = make_results(num_trials=40)
CENTER = RESULTS.trials[0].parameters


def reason(results: StudyResults = RESULTS, **how: Any) -> str:
    answer = ask_for_insight(results, CENTER, **how)
    assert isinstance(answer, NoInsight)
    return answer.reason


def answering(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let another program take the place of the one that asks Ax."""
    run = subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda _, **how: run([sys.executable, "-c", code], **how))


def test_few_trials_make_no_model() -> None:
    assert reason(make_results()) == "A model takes 20 trials with latency and top1; there are 19."


def test_only_trials_with_all_figures_are_modelled() -> None:
    stopped = [make_record(i, state=state) for i, state in ((0, "stopped"), (1, "gated"), (2, "failed"))]
    results = make_results([*stopped, make_record(3), make_record(4, parameters={"another.space": 1})])
    assert [record.label for record in modelled(results)] == ["3"]


def test_without_ax_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert reason() == "It takes Ax, which is not installed: secateur[search] brings it."


def test_nobody_waits_longer_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "import time; time.sleep(60)")
    assert reason(time_limit_s=0.2) == "Ax had no answer within 0 s."


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ValueError('singular matrix')", "Ax failed: ValueError: singular matrix."),
        ("import os; os.abort()", "Ax failed: it said nothing."),
        ("print('{')", "Ax's answer cannot be read: Invalid JSON"),
    ],
    ids=["error", "crash", "nonsense"],
)
def test_failures_become_a_reason(monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    answering(monkeypatch, code)
    assert reason().startswith(words)


def test_an_answer_is_current_until_there_are_more_trials() -> None:
    num = len(modelled(RESULTS))
    insight = Insight(num_trials=num, num_modelled=num, importance={}, slices=(), contours=())
    assert is_current(insight, RESULTS)
    assert not is_current(insight, make_results(num_trials=60))


def test_a_sample_of_many_is_not_current_when_there_are_more() -> None:
    many, more = make_results(num_trials=400), make_results(num_trials=500)
    insight = Insight(num_trials=MAX_TRIALS, num_modelled=len(modelled(many)), importance={}, slices=(), contours=())
    assert is_current(insight, many)
    assert not is_current(insight, more)


def test_very_many_trials_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Question] = []

    def run(_: Any, *, input: str, **how: Any) -> Any:  # noqa: A002 (as in subprocess)
        asked.append(Question.model_validate_json(input))
        raise subprocess.TimeoutExpired("ax", 1.0)

    monkeypatch.setattr(subprocess, "run", run)
    assert reason(make_results(num_trials=1000)).startswith("Ax had no answer")
    labels = [int(record.label) for record in asked[0].trials]
    assert len(set(labels)) == MAX_TRIALS
    assert labels[-1] > 990


@pytest.mark.slow
def test_ax_finds_what_matters() -> None:
    insight = ask_for_insight(RESULTS, CENTER, time_limit_s=300.0)
    assert isinstance(insight, Insight), insight
    importance = insight.importance["latency_ratio"]
    # The factory's latency falls by 0.5, 0.3 and 0.1 of the three sparsities, and does not know the fourth.
    assert list(importance)[:2] == ["filter_pruner_70.desired_sparsity", "filter_pruner_60.desired_sparsity"]
    assert importance["filter_pruner_70.group_type"].total < 0.1
    latency = [found for found in insight.slices if found.metric == "latency_ratio"]
    assert [found.parameter for found in latency] == list(RESULTS.trials[0].parameters)[:3]
    assert latency[0].means[0] > latency[0].means[-1]
    assert {contour.metric for contour in insight.contours} == {"latency_ratio", "top1"}
