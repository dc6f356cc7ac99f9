"""What a notebook does: its own model, data and evaluation, two studies one after the other, inside a running loop."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from flows import run_study
from secateur.config import Study
from secateur.leaderboard import leaderboard
from secateur.results import StudyResults
from tests.flows.tiny import STUDY, images, network, red_recall, write_study

__all__ = ["images", "network", "red_recall"]
"""What the study names as ``python:__main__:...``."""


def summary(results: StudyResults) -> dict[str, object]:
    """Return what the test looks at."""
    return {
        "states": [trial.state for trial in results.trials],
        "metrics": [row.metrics for row in leaderboard(results)],
        "tested": [row.record.test is not None for row in leaderboard(results) if row.is_on_front],
    }


async def main() -> None:
    """Run a study from its parts, and then go on with it."""
    write_study(Path())
    study = Study.model_validate(
        STUDY
        | {
            "model": "python:__main__:network",
            "dataset": {"name": "python:__main__:images"},
            "evaluation": "python:__main__:red_recall",
            "budget": {"trials": 1, "parallel": 1},
        }
    )
    await asyncio.sleep(0)  # the loop runs, as in Jupyter
    first = run_study(study, store="store")
    second = run_study("tiny", store="store", additional_trials=1)
    json.dump([summary(first), summary(second)], sys.stdout)


asyncio.run(main())
