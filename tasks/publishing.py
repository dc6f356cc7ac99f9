"""Show a study in Prefect's UI, and write its report."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import (
    acreate_image_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)

from secateur.insight import Insight, NoInsight
from secateur.report import importance_rows, leaderboard_rows, render_markdown, render_pareto_png
from secateur.results import StudyResults
from secateur.steps.report import insight_of
from secateur.steps.report import write_report as write_report_
from secateur.store import StudyFiles
from tasks.settings import RETRIED

_FEWEST_MODELLED = 24
"""Half as much again as a power of two: few studies end there, where the report asks the model anyway."""


def artifact_key(study: str, what: str) -> str:
    """Return a key Prefect accepts: lower-case letters, digits and dashes."""
    return f"{re.sub('[^a-z0-9]+', '-', study.lower()).strip('-')}-{what}"


async def start_progress(study: str) -> UUID:
    """Create the sweep's progress artifact."""
    return await acreate_progress_artifact(0.0, key=artifact_key(study, "progress"), description=f"Trials of {study}")


@task(task_run_name="publish {files.name}", **RETRIED)
async def publish(files: StudyFiles, results: StudyResults, progress_id: UUID, num_trials: int) -> None:
    """Update the artifacts: progress, leaderboard, summary, Pareto plot, and now and then importance."""
    name = files.name
    num_finished = sum(record.is_finished for record in results.trials)
    png, markdown = await asyncio.gather(
        asyncio.to_thread(render_pareto_png, results), asyncio.to_thread(render_markdown, results)
    )
    # A data URI: the picture stays in the UI as long as the artifact does, whoever looks at it.
    picture = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    await asyncio.gather(
        aupdate_progress_artifact(progress_id, min(100.0, 100.0 * num_finished / max(num_trials, 1))),
        acreate_table_artifact(_leaderboard(results), key=artifact_key(name, "leaderboard"), description=f"# {name}"),
        acreate_markdown_artifact(markdown, key=artifact_key(name, "summary"), description=f"Summary of {name}"),
        acreate_image_artifact(picture, key=artifact_key(name, "pareto"), description=f"Pareto front of {name}"),
    )
    if _is_model_due(num_finished, results.study["budget"]["parallel"]):
        await _publish_importance(name, await asyncio.to_thread(insight_of, files, results))


def _is_model_due(num_finished: int, batch: int) -> bool:
    """Tell whether the last batch brought the trials to 24, 48, 96 and so on: Ax's model takes seconds."""
    now, before = (num // _FEWEST_MODELLED for num in (num_finished, max(num_finished - batch, 0)))
    return now.bit_length() > before.bit_length()


async def _publish_importance(name: str, insight: Insight | NoInsight) -> None:
    if isinstance(insight, Insight):
        rows = [
            {k: v if isinstance(v, str) else round(v, 3) for k, v in row.items()} for row in importance_rows(insight)
        ]
        words = f"Importance of each parameter after {insight.num_modelled} trials: Sobol indices of Ax's model"
        await acreate_table_artifact(rows, key=artifact_key(name, "importance"), description=words)


def _leaderboard(results: StudyResults) -> list[dict[str, Any]]:
    """Return the leaderboard for people: the UI prints every digit that it gets."""
    return [
        {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        for row in leaderboard_rows(results)
    ]


@task(task_run_name="report {files.name}", **RETRIED)
async def write_report(files: StudyFiles, results: StudyResults) -> None:
    """Write the report into the store, and show what the optimiser's model says."""
    await _publish_importance(files.name, await asyncio.to_thread(write_report_, files, results))
