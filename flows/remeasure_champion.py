"""The `remeasure` flow: has a study's networks measured again, and says what changed. Meant for the night."""

from __future__ import annotations

import os

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from flows.child_dispatch import Dispatch, run_child, run_on_worker
from flows.measure_again import measure_again
from flows.side_by_side import wait_for_all
from secateur.errors import DispatchError, DriftError
from secateur.steps.source import find_study, stored_study
from tasks.control import hold, tell
from tasks.drifts import compare_nights, report_drift

HERE = "here"
"""What a host is called that measures in the process of the flow."""


@flow(name="remeasure", flow_run_name="remeasure {study}", persist_result=False)
async def remeasure(
    study: str, night: str | None = None, store: str | None = None, dispatch: Dispatch = "deployed"
) -> None:
    """Measure the champion, the unpruned network and the schedule's own again, and compare with the nights before.

    A drift is a Prefect event (``secateur.drift``) and fails the run.

    Args:
        study: A study's YAML file, or the name of one in the store.
        night: Names it; by default the time that the run was scheduled for, which stays the same if it is run again
            after its host was lost.
        store: Path or s3:// URL; by default SECATEUR_STORE.
        dispatch: deployed: on every edge host that has a deployment of `measure-again`.

    Raises:
        DriftError: A device or a network is not what it was.
    """
    files, _ = find_study(study, store or os.environ.get("SECATEUR_STORE", "runs/.store"))
    stored_study(files)
    night = night or f"{flow_run.scheduled_start_time:%Y%m%dT%H%M%SZ}"
    async with hold(files, PREFECT_UI_URL.value()) as lease:
        await tell(lease, "measuring the champion again")
        address = {"study": files.name, "night": night, "store": files.store.url}
        places = [HERE] if dispatch == "in_process" else await _places()
        try:
            if dispatch == "in_process":
                await run_child(measure_again, HERE, dispatch, **address, place=HERE)
            else:
                await wait_for_all(
                    run_on_worker(f"{measure_again.name}/{place}", {**address, "place": place}) for place in places
                )
        finally:  # a host that fails does not silence the others: what was measured counts as usual from now on
            drifts = await compare_nights(files, night, places)
            for drift in drifts:
                await report_drift(files, drift)
    if changed := [drift for drift in drifts if drift.has_changed]:
        sentences = [f"{drift.place}: {sentence}" for drift in changed for sentence in drift.sentences]
        raise DriftError(f"study {files.name!r}: " + "\n  ".join(sentences))


async def _places() -> list[str]:
    """Return the names of all deployments that measure again: each is one kind of edge host."""
    async with get_client() as client:
        found = await client.read_deployments(flow_filter=FlowFilter(name=FlowFilterName(any_=[measure_again.name])))
    if not found:
        raise DispatchError(
            f"No deployment of {measure_again.name!r} exists, so there is no edge host to measure on."
            " Deploy prefect.yaml: `prefect deploy --all`, or `python -m flows.server_setup`."
        )
    return sorted(deployment.name for deployment in found)
