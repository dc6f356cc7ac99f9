"""The `retrain` flow: retrains contenders with fresh seeds, publishes a champion's figure. Runs where the GPU is."""

from __future__ import annotations

from typing import Literal

from prefect import flow

from flows.compress_candidates import as_cores_allow
from flows.side_by_side import wait_for_all
from secateur.candidate import Workshop
from secateur.steps.gate import OperationGate
from secateur.steps.source import stored_study
from secateur.store import StudyFiles, open_store
from tasks.champions import publish_network, retrain_contender


@flow(name="retrain", flow_run_name="{action} {labels} of {study}", persist_result=False)
async def retrain(study: str, labels: list[str], store: str, action: Literal["retrain", "publish"] = "retrain") -> None:
    """Retrain contenders, or evaluate the winner on test data.

    Args:
        study: Name of a study in the store.
        labels: Contenders, such as 12-1, and unpruned.
        store: Path or s3:// URL.
        action: What to do with them.
    """
    files = StudyFiles(open_store(store), study)
    read = stored_study(files)
    workshop = Workshop(study=read, store=files.store, gate=OperationGate(read.device))
    step = retrain_contender if action == "retrain" else publish_network
    run = as_cores_allow(workshop, files, step, action, len(labels))
    await wait_for_all(run(label) for label in labels)
