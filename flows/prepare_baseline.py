"""The `baseline` flow: what every candidate is compared with. Runs on the control host."""

from __future__ import annotations

import os

from prefect import flow
from prefect.settings import PREFECT_UI_URL

from flows.child_dispatch import Dispatch, run_child
from flows.compress_candidates import compress
from flows.measure_artifacts import measure
from secateur.config import Study
from secateur.errors import StudyError
from secateur.results import BASELINES, UNPRUNED
from secateur.steps.record import proposed
from secateur.steps.source import find_study
from secateur.store import StudyFiles, StudyLease
from tasks.control import hold, obey, tell
from tasks.studies import open_study


@flow(name="baseline", flow_run_name="baselines of {study}", persist_result=False)
async def baseline(
    study: str,
    overrides: list[str] = [],  # noqa: B006 (nobody changes it)
    store: str | None = None,
    dispatch: Dispatch = "deployed",
) -> None:
    """Train or import the unpruned network, and prune it as the schedule stands ("off the shelf"); measure both.

    Args:
        study: A study's YAML file, or the name of one in the store.
        overrides: key=value each, as with --set.
        store: Path or s3:// URL; by default SECATEUR_STORE.
        dispatch: deployed: the other flows run on their own workers.
    """
    files, wanted = find_study(study, store or os.environ.get("SECATEUR_STORE", "runs/.store"), overrides)
    async with hold(files, PREFECT_UI_URL.value()) as lease:
        await make_baselines(files, lease, await open_study(files, wanted, None, 0, fresh=False), dispatch)


async def make_baselines(files: StudyFiles, lease: StudyLease, study: Study, dispatch: Dispatch) -> None:
    """Bring both baselines to their end.

    Raises:
        StudyError: There is no unpruned network to start from.
        StudyCancelledError: Somebody cancelled the study.
    """
    address = {"study": study.name, "store": files.store.url}
    known = files.baselines()
    for label in BASELINES:
        if label not in known:
            files.write_record(proposed(study.name, label, method="baseline", parameters={}, seed=study.search.seed))
    while labels := _unfinished(files):
        await obey(files, lease)  # a child that is told to pause returns early
        await tell(lease, "making the baselines")
        await run_child(compress, "gpu", dispatch, **address, labels=labels)
        if _unfinished(files):
            await run_child(measure, "edge", dispatch, **address, labels=labels)


def _unfinished(files: StudyFiles) -> list[str]:
    records = files.baselines()
    if (failure := records[UNPRUNED].failure) is not None:
        raise StudyError(
            f"study {files.name!r}: there is no unpruned network to start from: {failure.message}"
            " Correct that, and start over with --fresh."
        )
    return [label for label, record in records.items() if not record.is_finished]
