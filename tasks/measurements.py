"""Tasks of the edge host: measure."""

from __future__ import annotations

import asyncio

from prefect import task
from prefect.logging import get_run_logger

from secateur.config import Study
from secateur.results import TrialRecord
from secateur.steps.measure import measure
from secateur.store import StudyFiles
from tasks.settings import RETRIED


@task(task_run_name="measure {labels}", **RETRIED)
async def measure_trials(files: StudyFiles, study: Study, labels: list[str]) -> list[TrialRecord]:
    """Time trials on this host's device, paired with the unpruned network."""
    records = await asyncio.to_thread(measure, files, study.device, labels, seed=study.search.seed)
    for record in records:
        if record.latency is not None:
            ratio = record.latency.latency_ratio
            get_run_logger().info(
                "trial %s: latency ratio %.3f [%.3f, %.3f]", record.label, ratio.estimate, ratio.low, ratio.high
            )
    return records
