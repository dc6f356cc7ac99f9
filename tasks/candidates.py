"""Tasks of the GPU host: export a trial untrained, compress it, test a finalist."""

from __future__ import annotations

import asyncio

from prefect import task
from prefect.logging import get_run_logger

from secateur.candidate import Workshop
from secateur.results import TrialRecord
from secateur.steps.compress import compress, export_untrained, test
from secateur.store import StudyFiles
from tasks.settings import RETRIED


@task(task_run_name="compress {label}", **RETRIED)
async def compress_trial(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TrialRecord:
    """Prune, thin, retrain, evaluate and export one trial."""
    record = await asyncio.to_thread(compress, workshop, files, label, num_threads)
    log = get_run_logger()
    if record.failure is not None:
        log.warning("trial %s failed: %s", label, record.failure.message)
    elif record.compressed is not None:
        scores = record.compressed.validation
        log.info("trial %s: top1 %.2f, %d parameters", label, scores.top1, record.compressed.num_params)
    return record


@task(task_run_name="export {label}", **RETRIED)
async def export_trial(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TrialRecord:
    """Prune and export one trial, untrained."""
    record = await asyncio.to_thread(export_untrained, workshop, files, label, num_threads)
    if record.failure is not None:
        get_run_logger().warning("trial %s failed: %s", label, record.failure.message)
    return record


@task(task_run_name="test {label}", **RETRIED)
async def test_finalist(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TrialRecord:
    """Evaluate one finalist on test data."""
    record = await asyncio.to_thread(test, workshop, files, label, num_threads)
    if record.test is not None:
        get_run_logger().info("trial %s: top1 %.2f on test data", label, record.test.top1)
    return record
