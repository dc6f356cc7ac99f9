"""`secateur up` and `secateur down`: a server, an object store and workers on this machine."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from secateur import progress
from secateur.cli import services, supervise
from secateur.cli.display import progress_on_stderr
from secateur.cli.output import say
from secateur.cli.services import PARTS, SERVER, STORE, WORKERS
from secateur.cli.supervise import State
from secateur.store import local_s3
from secateur.store.local_s3 import LocalS3
from secateur.store.s3_client import is_ready

_START_S = 120.0
_WORKERS_GRACE_S = 10.0
_SERVICES_GRACE_S = 5.0


def up(port: int, folder: Path) -> None:
    """Start what does not run yet, deploy the flows, and say how to use it.

    Raises:
        SecateurError: Something did not start. What this call started is ended again.
    """
    folder = folder.absolute()
    with progress_on_stderr(), supervise.alone(folder):
        state = State.load(folder)
        running = [started.name for started in state.alive()] if state else []
        if state is None or not running:
            if state is not None:  # the machine was restarted, or all was killed: flow runs may be left
                _end(folder, state, PARTS)
            state = State(mark=secrets.token_hex(8), port=port)
        missing = [name for name in PARTS if name not in running]
        if missing:
            _start(folder, state, missing)
    say("Already up." if not missing else "Up.")
    _say_how_to_use(folder, state.port)


def down(folder: Path) -> None:
    """End what `up` started from this folder, and nothing else."""
    folder = folder.absolute()
    if not folder.exists() or (state := State.load(folder)) is None:
        say(f"Nothing was started from {folder}.")
        return
    with progress_on_stderr(), supervise.alone(folder):
        ended = _end(folder, state, PARTS)
    say(f"Ended: {', '.join(ended)}." if ended else "Nothing was running.")


def _start(folder: Path, state: State, names: Collection[str]) -> None:
    try:
        with progress.track("secateur up", total=len(PARTS)) as bar:
            bar.advance(len(PARTS) - len(names))
            store = _start_services(folder, state, names, bar)
            _start_workers(folder, State.load(folder) or state, names, store, bar)
    except BaseException:
        _end(folder, State.load(folder) or state, names)
        raise


def _start_services(folder: Path, state: State, names: Collection[str], bar: progress.Bar) -> LocalS3:
    """Start store and server at the same time, and return when they answer."""
    if SERVER in names:
        services.check_port(state.port)
    store = services.object_store(folder, is_running=STORE not in names)
    services.write_exports(folder, state.port, store)
    if STORE in names:
        command = local_s3.command(store.data_dir, store.port)
        state = supervise.start(folder, state, STORE, command, store.server_environment, folder)
    if SERVER in names:
        environment = services.prefect_environment(folder, state.port)
        state = supervise.start(folder, state, SERVER, services.server_command(state.port), environment, folder)
    # Importing takes seconds, as does the server's start.
    _use(services.prefect_environment(folder, state.port))
    import flows.server_setup  # noqa: F401

    ready = {STORE: lambda: is_ready(store.environment), SERVER: lambda: _answers(state.port)}
    for started in state.started:
        if started.name in ready:
            supervise.wait_until(ready[started.name], started, folder, _START_S)
            bar.advance(int(started.name in names), note=started.name)
    return store


def _use(environment: Mapping[str, str]) -> None:
    """Change this process's environment, which ends with the command: Prefect reads its settings when imported."""
    os.environ.clear()
    os.environ.update(environment)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"{services.server_url(port)}/api/health", timeout=2):  # noqa: S310 (loopback)
            return True
    except (urllib.error.URLError, OSError):
        return False


def _start_workers(folder: Path, state: State, names: Collection[str], store: LocalS3, bar: progress.Bar) -> None:
    """Make the pools, start their workers, and meanwhile deploy."""
    from flows.server_setup import close_lost_runs, create_automations, create_work_pools, deploy_flows, is_served

    python, working_dir = sys.executable, Path.cwd()
    pools = asyncio.run(create_work_pools(python=python, working_dir=working_dir))
    progress.message(f"work pools: {', '.join(pools)}")
    progress.message(f"automations: {', '.join(asyncio.run(create_automations()))}")
    began = datetime.now(UTC)
    environment = services.worker_environment(folder, state.port, store)
    workers = {name: pool for name, pool in WORKERS.items() if name in names}
    if len(workers) == len(WORKERS):  # no worker is left that could be at a run
        for run in asyncio.run(close_lost_runs("Its worker was killed.", restart=True)):
            progress.message(f"was cut off: {run}")
    for name, pool in workers.items():
        state = supervise.start(folder, state, name, services.worker_command(pool), environment, working_dir)
    progress.message(f"deployments: {', '.join(asyncio.run(deploy_flows()))}")
    for started in state.started:
        if started.name in workers:
            served = partial(is_served, workers[started.name], began)
            supervise.wait_until(lambda: asyncio.run(served()), started, folder, _START_S)  # noqa: B023 (called at once)
            bar.advance(note=started.name)


def _end(folder: Path, state: State, names: Collection[str]) -> list[str]:
    """End parts, the workers first; the server learns what that means for their flow runs."""
    with progress.track("ending"):
        ran = supervise.end(state, [name for name in WORKERS if name in names], _WORKERS_GRACE_S)
        is_server_ours = SERVER in [started.name for started in state.alive()]
        if set(WORKERS) <= set(names) and is_server_ours and _answers(state.port):
            _use(services.prefect_environment(folder, state.port))
            from flows.server_setup import close_lost_runs

            asyncio.run(close_lost_runs("Ended by 'secateur down'.", restart=False))
        ran += supervise.end(state, [name for name in (SERVER, STORE) if name in names], _SERVICES_GRACE_S)
    for started in ran:
        if started.name == STORE:
            local_s3.remove_sockets(started.arguments)
    remaining = tuple(started for started in state.started if started.name not in names)
    state.model_copy(update={"started": remaining}).save(folder)
    return [f"{started.name} (process {started.pid})" for started in ran]


def _say_how_to_use(folder: Path, port: int) -> None:
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    say(f"  Prefect's UI: {services.server_url(port)}")
    say(f"  In a shell:   source {shown}/env")
    say("                prefect deployment run 'sweep/quickstart'")
    say("                secateur status")
    say(f"  Logs:         {shown}/logs")
    option = "" if str(shown) == "runs/.up" else f" --folder {shown}"
    say(f"  To end it:    secateur down{option}")
