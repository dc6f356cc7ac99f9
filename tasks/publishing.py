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

from secateur.report import leaderboard_rows, render_markdown, render_pareto_png
from secateur.results import StudyResults
from secateur.steps.report import write_report as write_report_
from secateur.store import StudyFiles
from tasks.settings import RETRIED


def artifact_key(study: str, what: str) -> str:
    """Return a key Prefect accepts: lower-case letters, digits and dashes."""
    return f"{re.sub('[^a-z0-9]+', '-', study.lower()).strip('-')}-{what}"


async def start_progress(study: str) -> UUID:
    """Create the sweep's progress artifact."""
    return await acreate_progress_artifact(0.0, key=artifact_key(study, "progress"), description=f"Trials of {study}")


@task(task_run_name="publish {files.name}", **RETRIED)
async def publish(files: StudyFiles, results: StudyResults, progress_id: UUID, num_trials: int) -> None:
    """Update the artifacts: progress, leaderboard, summary, Pareto plot."""
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


def _leaderboard(results: StudyResults) -> list[dict[str, Any]]:
    """Return the leaderboard for people: the UI prints every digit that it gets."""
    return [
        {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
        for row in leaderboard_rows(results)
    ]


@task(task_run_name="report {files.name}", **RETRIED)
async def write_report(files: StudyFiles, results: StudyResults) -> None:
    """Write the report into the store: one HTML page, Markdown, and the plot."""
    await asyncio.to_thread(write_report_, files, results)
