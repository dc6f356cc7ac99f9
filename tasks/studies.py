"""Tasks of the control host: open a study, propose trials, publish what is known."""

from __future__ import annotations

import asyncio

from prefect import task
from prefect.logging import get_run_logger

from secateur.config import Study
from secateur.results import StudyResults, TrialRecord
from secateur.steps.admission import admit as admit_
from secateur.steps.open import open_study as open_
from secateur.steps.propose import observe as observe_
from secateur.steps.propose import propose as propose_
from secateur.store import StudyFiles
from tasks.settings import RETRIED


@task(task_run_name="open {study.name}", **RETRIED)
async def open_study(
    files: StudyFiles, study: Study, trials: int | None, additional_trials: int, *, fresh: bool
) -> Study:
    """Check a study and write it down as run."""
    return await asyncio.to_thread(open_, files, study, trials=trials, additional_trials=additional_trials, fresh=fresh)


@task(task_run_name="propose up to {count}", **RETRIED)
async def propose(files: StudyFiles, study: Study, results: StudyResults, count: int) -> list[TrialRecord]:
    """Choose the next trials and write their records, the optimiser's state first."""
    records = await asyncio.to_thread(propose_, files, study, results, count)
    for record in records:
        get_run_logger().info("trial %s (%s): %s", record.label, record.method, record.parameters)
    return records


@task(task_run_name="tell the optimiser", **RETRIED)
async def observe(files: StudyFiles, study: Study, results: StudyResults) -> None:
    """Let the optimiser know a batch's outcome, and store its state."""
    await asyncio.to_thread(observe_, files, study, results)


@task(task_run_name="admit {labels}", **RETRIED)
async def admit(files: StudyFiles, study: Study, labels: list[str]) -> list[str]:
    """Return those of the trials, measured untrained, that are worth training; the others end here."""
    going_on = await asyncio.to_thread(admit_, files, study, labels)
    for label in labels:
        if label not in going_on:
            get_run_logger().info("trial %s cannot win, and is not trained", label)
    return going_on


@task(task_run_name="read {files.name}", **RETRIED)
async def read_results(files: StudyFiles) -> StudyResults:
    """Read all records of a study."""
    return await asyncio.to_thread(files.results)
