"""Who runs a study, and whether it is to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress

from prefect import task

from secateur import progress
from secateur.errors import StoreUnavailableError, StudyCancelledError
from secateur.store import Control, StudyFiles, StudyLease
from tasks.settings import RETRIED

_POLL_S = 1.0


@task(task_run_name="look for orders", **RETRIED)
async def wanted(files: StudyFiles) -> Control:
    """Return what somebody wants of the sweep: run, pause or cancel."""
    return await asyncio.to_thread(files.read_control)


async def obey(files: StudyFiles, lease: StudyLease) -> None:
    """Wait while the study is paused.

    Raises:
        StudyCancelledError: Somebody cancelled it. The order is carried out by this, and forgotten.
    """
    if (order := await wanted(files)) == "pause":
        progress.message(f"{files.name} is paused; 'secateur resume {files.name}' lets it go on.")
        await tell(lease, "waiting")
    while order == "pause":
        await asyncio.sleep(_POLL_S)
        with suppress(StoreUnavailableError):  # not a task: a night's pause would fill Prefect's database
            order = await asyncio.to_thread(files.read_control)
    if order == "cancel":
        files.write_control("run")
        raise StudyCancelledError(
            f"study {files.name!r} was cancelled; what it found is kept, and it can be continued."
        )


@asynccontextmanager
async def hold(files: StudyFiles, server_url: str | None) -> AsyncIterator[StudyLease]:
    """Hold the study for as long as the context lasts: no other sweep may run it.

    Raises:
        StudyBusyError: Another sweep does.
    """
    with ExitStack() as stack:
        lease = StudyLease(files.store, files.name, server_url=server_url)
        await asyncio.to_thread(stack.enter_context, lease.held())
        if await wanted(files) == "cancel":  # it was meant for a sweep that has ended: only a running one is cancelled
            files.write_control("run")
        yield lease


async def tell(lease: StudyLease, activity: str) -> None:
    """Let `secateur status` know what is being done.

    Raises:
        StudyBusyError: Somebody took the study over: this process was silent for too long, and has to stop.
    """
    with suppress(StoreUnavailableError):  # not worth failing for
        await asyncio.to_thread(lease.renew, activity)
