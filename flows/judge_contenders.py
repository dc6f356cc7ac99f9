"""The `judge` flow: measures contenders, and has the device classify unseen images. Runs on the edge host."""

from __future__ import annotations

from prefect import flow

from secateur.steps.source import stored_study
from secateur.store import StudyFiles, open_store
from tasks.nights import judge_contenders


@flow(name="judge", flow_run_name="judge {labels} of {study}", persist_result=False)
async def judge(study: str, labels: list[str], store: str) -> None:
    """Judge contenders on this host's device, at the precision of the study's profile.

    Args:
        study: Name of a study in the store.
        labels: Contenders, such as 12-1, and unpruned.
        store: Path or s3:// URL.
    """
    files = StudyFiles(open_store(store), study)
    await judge_contenders(files, stored_study(files), labels)
