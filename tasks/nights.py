"""Tasks of the edge host: judge contenders, measure again."""

from __future__ import annotations

import asyncio

from prefect import task
from prefect.logging import get_run_logger

from secateur.championship import Night
from secateur.config import DeviceProfile, Study
from secateur.results import TrialRecord
from secateur.steps.judge import judge
from secateur.steps.night import measure_night as measure_night_
from secateur.store import StudyFiles
from tasks.settings import RETRIED


@task(task_run_name="judge {labels}", **RETRIED)
async def judge_contenders(files: StudyFiles, study: Study, labels: list[str]) -> list[TrialRecord]:
    """Measure contenders on this host's device, and have it classify unseen images."""
    return await asyncio.to_thread(judge, files, study.device, labels, seed=study.search.seed)


@task(task_run_name="measure {files.name} again", **RETRIED)
async def measure_night(files: StudyFiles, profile: DeviceProfile, time: str, place: str, seed: int) -> Night:
    """Measure the study's networks on this host's device, once a night."""
    night = await asyncio.to_thread(measure_night_, files, profile, time, place, seed=seed)
    for network, report in night.reports.items():
        ratio = report.latency_ratio
        get_run_logger().info("%s: latency ratio %.4f [%.4f, %.4f]", network, ratio.estimate, ratio.low, ratio.high)
    return night
