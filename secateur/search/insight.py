"""Ask Ax what it makes of a study, in a process of its own: it takes seconds, and nobody waits longer than said.

This module needs no Ax: where it is not installed, the answer is why there is none.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from secateur.config import ParameterValue, Study
from secateur.insight import Insight, NoInsight
from secateur.results import Record, StudyResults, TrialRecord

TIME_LIMIT_S = 30.0
MAX_TRIALS = 256
"""A Gaussian process takes time with the cube of their number; of more, as many are taken at even distances."""
_MIN_TRIALS, _MIN_TRIALS_A_PARAMETER = 20, 3
"""Of fewer, indices would say little, and importing Ax takes as long as several trials of a small study."""

_UNTRAINED = {"gated", "stopped"}
"""Their top1 is not what they would have reached."""


class Question(Record):
    """What `secateur.search.ax_insight` reads."""

    study: dict[str, Any]
    """As `StudyResults.study`."""
    trials: tuple[TrialRecord, ...]
    """With latency and top1 each."""
    unpruned: dict[str, float]
    """Metrics of the unpruned network."""
    center: dict[str, int | float | str]
    """The parameters that are not varied have these values."""


def ask_for_insight(
    results: StudyResults, center: Mapping[str, ParameterValue], time_limit_s: float = TIME_LIMIT_S
) -> Insight | NoInsight:
    """Return what a model of the study's trials says; why there is none, if there is none.

    Args:
        results: Of the study.
        center: The point around which the model is looked at: the best trial's parameters.
        time_limit_s: After so long nobody waits any more.
    """
    search, usable = Study.model_validate(results.study).search, modelled(results)
    needed = max(_MIN_TRIALS, _MIN_TRIALS_A_PARAMETER * len(search.parameters))
    if len(usable) < needed:
        return NoInsight(reason=f"A model takes {needed:,} trials with latency and top1; there are {len(usable):,}.")
    if importlib.util.find_spec("ax") is None:
        return NoInsight(reason="It takes Ax, which is not installed: secateur[search] brings it.")
    question = Question(
        study=results.study,
        trials=tuple(_evenly(usable)),
        unpruned=dict(results.baseline_metrics.get("baseline", {})),
        center=dict(center),
    )
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "secateur.search.ax_insight"],
            input=question.model_dump_json(),
            capture_output=True,
            text=True,
            timeout=time_limit_s,
            check=True,
        )
        return Insight.model_validate_json(answer.stdout).model_copy(update={"num_modelled": len(usable)})
    except subprocess.TimeoutExpired:
        return NoInsight(reason=f"Ax had no answer within {time_limit_s:.0f} s.")
    except subprocess.CalledProcessError as exc:
        return NoInsight(reason=f"Ax failed: {_last_line(exc.stderr)}.")
    except ValidationError as exc:
        return NoInsight(reason=f"Ax's answer cannot be read: {exc.errors(include_url=False)[0]['msg']}.")


def modelled(results: StudyResults) -> list[TrialRecord]:
    """Return the trials that a model can be fitted to: of this search space, with latency and top1."""
    names = results.study["search"]["parameters"].keys()
    usable = [r for r in results.trials if r.is_usable and r.state not in _UNTRAINED and r.parameters.keys() == names]
    return [record for record in usable if record.metrics.keys() >= {"latency_ratio", "top1"}]


def is_current(insight: Insight, results: StudyResults) -> bool:
    """Tell whether a new answer would be the same."""
    return insight.num_modelled == len(modelled(results))


def _evenly(records: list[TrialRecord]) -> list[TrialRecord]:
    step = max(1.0, len(records) / MAX_TRIALS)
    return [records[int(i * step)] for i in range(min(len(records), MAX_TRIALS))]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].rstrip(".") if lines else "it said nothing"
