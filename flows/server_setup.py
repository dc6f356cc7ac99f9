"""Teach a Prefect server this project: work pools, automations, deployments. All of it may be repeated.

`secateur up` calls it; ``python -m flows.server_setup`` does the same for the server that PREFECT_API_URL names.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from copy import deepcopy
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import ConcurrencyOptions, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import load_flow_from_entrypoint
from prefect.states import Crashed
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker

from secateur import resources


async def create_work_pools(*, python: str | None = None, working_dir: Path | None = None) -> list[str]:
    """Create the pools of infra/work-pools.yaml, or bring their job templates up to date; return their names.

    Args:
        python: What runs a flow, on every worker; None: whatever runs the worker, through Prefect's launcher. That
            costs two more interpreters, 3 s of CPU, for every flow run.
        working_dir: Where flow runs look for files with relative names; None: each in an empty folder.
    """
    template = _job_template(python, working_dir)
    pools = _read("infra/work-pools.yaml")
    async with get_client() as client:
        for name, fields in pools.items():
            try:
                await client.create_work_pool(
                    WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template, **fields)
                )
            except ObjectAlreadyExists:
                await client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))
    return list(pools)


async def create_automations() -> list[str]:
    """Create the automations of infra/automations.yaml, or bring them up to date; return their names."""
    automations = [AutomationCore.model_validate(fields) for fields in _read("infra/automations.yaml")["automations"]]
    async with get_client() as client:
        for automation in automations:
            known = await client.read_automations_by_name(automation.name)
            if not known:
                await client.create_automation(automation)
            elif (known[0].trigger, known[0].actions) != (automation.trigger, automation.actions):
                await client.update_automation(known[0].id, automation)  # which forgets what it waits for
    return [automation.name for automation in automations]


async def deploy_flows() -> list[str]:
    """Deploy what prefect.yaml lists; return the names, such as ``sweep/quickstart``."""
    async with get_client() as client:
        return [await _deploy(client, fields) for fields in _read("prefect.yaml")["deployments"]]


async def close_lost_runs(message: str, *, restart: bool) -> list[str]:
    """Mark flow runs as crashed that nobody can be at any more; return their names.

    Args:
        message: What became of them.
        restart: Begin sweeps and baselines again (they do the same for the flows they call), as new runs: a server
            that was restarted holds back the events of earlier ones for a quarter of an hour.
    """
    is_open = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    async with get_client() as client:
        runs = await client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=is_open)))
        for run in runs:
            await client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            if restart and run.deployment_id is not None and run.work_pool_name == "control":
                await client.create_flow_run_from_deployment(
                    run.deployment_id, parameters=run.parameters, tags=run.tags
                )
    return [run.name for run in runs]


async def is_served(pool: str, since: datetime) -> bool:
    """Tell whether a worker of the pool was heard of since then."""
    async with get_client() as client:
        workers = await client.read_workers_for_work_pool(pool)
    return any(worker.last_heartbeat_time >= since for worker in workers)


async def _deploy(client: PrefectClient, fields: dict[str, Any]) -> str:
    flow = load_flow_from_entrypoint(fields["entrypoint"], use_placeholder_flow=False)
    limit = fields.get("concurrency_limit") or {}
    await client.create_deployment(
        flow_id=await client.create_flow_from_name(flow.name),
        name=fields["name"],
        description=fields.get("description"),
        tags=fields.get("tags", []),
        entrypoint=fields["entrypoint"],
        work_pool_name=fields["work_pool"]["name"],
        parameters=fields.get("parameters", {}),
        parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
        enforce_parameter_schema=True,
        schedules=[_schedule(**schedule) for schedule in fields.get("schedules", [])],
        concurrency_limit=limit.get("limit"),
        concurrency_options=ConcurrencyOptions(collision_strategy=limit["collision_strategy"]) if limit else None,
        pull_steps=[],
    )
    return f"{flow.name}/{fields['name']}"


def _schedule(slug: str, cron: str, timezone: str, active: bool) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(slug=slug, schedule=CronSchedule(cron=cron, timezone=timezone), active=active)


def _job_template(python: str | None, working_dir: Path | None) -> dict[str, Any]:
    template = deepcopy(ProcessWorker.get_default_base_job_template())
    variables = template["variables"]["properties"]
    if python is not None:
        variables["command"]["default"] = shlex.join([python, "-m", "prefect.engine"])
    if working_dir is not None:
        variables["working_dir"]["default"] = str(working_dir)
    return template


def _read(name: str) -> Any:
    return yaml.safe_load(resources.find(name).read_text(encoding="utf-8"))


def main() -> None:
    """Set up the server that PREFECT_API_URL names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", help="what runs a flow, on every worker")
    parser.add_argument("--working-dir", type=Path, help="where flow runs look for files with relative names")
    options = vars(parser.parse_args())
    for step in (partial(create_work_pools, **options), create_automations, deploy_flows):
        for name in asyncio.run(step()):
            sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
