"""The `compress` flow: prunes, retrains and exports a batch of candidates. Runs where the GPU is."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from secateur import progress
from secateur.candidate import Workshop
from secateur.steps.source import stored_study
from secateur.store import StudyFiles, open_store
from tasks.candidates import compress_trial, test_finalist
from tasks.control import wanted


@flow(name="compress", flow_run_name="{action} {labels} of {study}", persist_result=False)
async def compress(study: str, labels: list[str], store: str, action: Literal["compress", "test"] = "compress") -> None:
    """Compress proposed trials, or evaluate finalists on test data.

    Args:
        study: Name of a study in the store.
        labels: Trials by index, or names of baselines.
        store: Path or s3:// URL.
        action: What to do with them.
    """
    files = StudyFiles(open_store(store), study)
    workshop = Workshop(study=stored_study(files), store=files.store)
    step = compress_trial if action == "compress" else test_finalist
    for label in labels:
        if await wanted(files) != "run":
            return  # what is left stays as it is
        with progress.track(f"{action} {label}"):
            await step(workshop, files, label)
