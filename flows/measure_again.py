"""The `measure-again` flow: one night's measurement of a study's networks. Runs on an edge host, one at a time.

Each deployment of it is one kind of device: the `remeasure` flow runs all that there are.
"""

from __future__ import annotations

from prefect import flow

from secateur.config import load_device
from secateur.steps.source import stored_study
from secateur.store import StudyFiles, open_store
from tasks.nights import measure_night


@flow(name="measure-again", flow_run_name="measure {study} again at {place}", persist_result=False)
async def measure_again(study: str, night: str, store: str, place: str, device: str | None = None) -> None:
    """Measure the champion and the schedule's own network, paired with the unpruned one.

    Args:
        study: Name of a study in the store.
        night: Names the night; what was measured in it is not measured again.
        store: Path or s3:// URL.
        place: Names this host among those that measure.
        device: A device profile's name, or its file; by default the study's own.
    """
    files = StudyFiles(open_store(store), study)
    read = stored_study(files)
    profile = read.device if device is None else load_device(device)
    await measure_night(files, profile, night, place, read.search.seed)
