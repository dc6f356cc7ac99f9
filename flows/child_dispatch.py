"""How one flow has another one run: in this process, or by whichever worker serves that deployment."""

from __future__ import annotations

from typing import Any, Literal

from prefect import task
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.flows import Flow

from secateur.errors import DispatchError
from tasks.settings import RETRIED

Dispatch = Literal["in_process", "deployed"]


async def run_child(flow: Flow[..., Any], deployment: str, dispatch: Dispatch, **parameters: Any) -> None:
    """Run a child flow to its end; what it found out stands in the store.

    Raises:
        SecateurError: In process: whatever the child raised.
        DispatchError: Deployed: the child did not complete, after retries.
    """
    if dispatch == "in_process":
        await flow(**parameters)
    else:
        await run_on_worker(f"{flow.name}/{deployment}", parameters)


@task(task_run_name="dispatch {name}", **RETRIED)
async def run_on_worker(name: str, parameters: dict[str, Any]) -> None:
    """Run a deployment and check how it ended: `run_deployment` itself returns normally when its run failed."""
    run = await run_deployment(name, parameters=parameters, poll_interval=1, as_subflow=True)  # type: ignore[misc]
    assert isinstance(run, FlowRun)
    state = run.state
    if state is None or not state.is_completed():
        what = "has no state" if state is None else f"ended as {state.name}: {state.message}"
        raise DispatchError(f"Flow run {run.name!r} of {name!r} {what}. Its logs are in Prefect's UI.")
