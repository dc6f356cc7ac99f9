"""Tasks of the control host, after a night's measurements: what changed, and who is told."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import task
from prefect.events import emit_event
from prefect.logging import get_run_logger

from secateur.drift import Drift, find_drift
from secateur.store import StudyFiles
from tasks.settings import RETRIED

EVENT = "secateur.drift"


@task(task_run_name="compare {files.name} with the nights before", **RETRIED)
async def compare_nights(files: StudyFiles, night: str, places: list[str]) -> list[Drift]:
    """Compare a night with those before it, at each place that measured in it."""
    nights = await asyncio.to_thread(files.nights)
    measured = [place for place in places if await asyncio.to_thread(files.read_night, night, place) is not None]
    return [find_drift([earlier for earlier in nights if earlier.place == place]) for place in measured]


@task(task_run_name="tell of {drift.place}", **RETRIED)
async def report_drift(files: StudyFiles, drift: Drift) -> None:
    """Log what was compared; of a drift, emit an event that automations can act on."""
    log = get_run_logger()
    for sentence in drift.sentences:
        log.warning("%s: %s", drift.place, sentence)
    if not drift.has_changed:
        log.info("%s: nothing has changed.", drift.place)
        return
    payload: dict[str, Any] = {"place": drift.place, "measured_at": drift.measured_at, "changes": drift.sentences}
    emit_event(EVENT, resource={"prefect.resource.id": f"secateur.study.{files.name}"}, payload=payload)
