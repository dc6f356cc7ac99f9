"""Run a flow in this process, against whichever server the environment names at that moment."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

from secateur.errors import SecateurError, StudyCancelledError

_DRAIN_S = 5.0
_PREFECTS_OWN = {"httpx", "prefect"}
"""Packages whose exceptions tell that the server did not do as it was asked; no flow of ours raises them."""


def run_flow(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Run a flow to its final state, in an event loop of its own (a notebook has one already).

    Args:
        call: Calls the flow with ``return_state=True``.

    Raises:
        SecateurError: Whatever the flow raised.
        StudyCancelledError: It ended as cancelled.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _run(call, asyncio.Runner())
    else:
        _run_in_thread(call)


@contextmanager
def _prefect_at_hand() -> Iterator[None]:
    """Fit Prefect to the server, and let it say all that it has to say before that ends.

    Prefect reads its settings when it is imported, which in a notebook is once for many servers; and it sends logs and
    events from threads that outlive a flow.
    """
    refresh_global_settings_context()
    raised, logging.raiseExceptions = logging.raiseExceptions, False  # a log line that gets lost is no news
    try:
        yield
    finally:
        for service in (APILogWorker, EventsWorker):
            service.drain_all(timeout=_DRAIN_S)
    logging.raiseExceptions = raised  # not after an error: what could not be sent is tried again at exit


def _run_in_thread(call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    runner, outcome, context = asyncio.Runner(), Future[None](), contextvars.copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(_run, call, runner))
        except BaseException as exc:  # noqa: BLE001 (it is raised again in the caller's thread)
            outcome.set_exception(exc)

    loop = runner.get_loop()
    threading.Thread(target=run, daemon=True).start()
    try:
        outcome.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        raise


def _run(call: Callable[[], Coroutine[Any, Any, Any]], runner: asyncio.Runner) -> None:
    try:
        with _prefect_at_hand():
            try:
                state, error = runner.run(_outcome(call))
            except TerminationSignal:  # Prefect's answer to SIGTERM, from wherever the loop was: as Ctrl-C, then
                runner.run(_cancel_all())
                raise KeyboardInterrupt from None
        # Only now: after Ctrl-C, closing would wait for a thread in the middle of an epoch.
        runner.close()
        if isinstance(error, Exception):
            raise error
    except Exception as exc:
        if type(exc).__module__.partition(".")[0] not in _PREFECTS_OWN:
            raise
        reason = str(exc).partition("\n")[0].removesuffix(".")
        raise SecateurError(
            f"Prefect's server at {PREFECT_API_URL.value()} failed: {reason}. Is its disk full? Its log may tell"
            f" ({PREFECT_HOME.value() / 'server.log'}). Nothing that was complete is lost: the same command goes on."
        ) from exc
    if state.is_cancelled():
        raise StudyCancelledError(state.message or "The run was cancelled.")
    if not state.is_completed():
        raise SecateurError(f"The run ended as {state.name}: {state.message}")


async def _cancel_all() -> None:
    """Let every task of this loop clean up after itself, and wait for them; not long."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_DRAIN_S)


async def _outcome(call: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[Any, Any]:
    state = await call()
    return state, await state.aresult(raise_on_failure=False) if not state.is_cancelled() else None
