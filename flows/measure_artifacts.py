"""The `measure` flow: measures a batch of candidates on its host's device. Runs on the edge host, one at a time."""

from __future__ import annotations

from prefect import flow

from secateur.steps.source import stored_study
from secateur.store import StudyFiles, open_store
from tasks.measurements import measure_trials


@flow(name="measure", flow_run_name="measure {labels} of {study}", persist_result=False)
async def measure(study: str, labels: list[str], store: str) -> None:
    """Measure compressed trials, paired with the unpruned network.

    Args:
        study: Name of a study in the store.
        labels: Trials by index, or names of baselines.
        store: Path or s3:// URL.
    """
    files = StudyFiles(open_store(store), study)
    await measure_trials(files, stored_study(files), labels)
