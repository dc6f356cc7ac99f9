"""How every task behaves: retried with growing, jittered pauses where the outside world is touched.

Results are cached under explicit keys, in our own store and not by Prefect: Prefect only logs a result that it could
not write, and caches whole task runs, where one new network in a batch of four is to cost one measurement.
"""

from __future__ import annotations

from typing import Any, TypedDict, TypeVar, cast

from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.tasks import exponential_backoff
from prefect.utilities.annotations import quote

from secateur.errors import DeviceBusyError, DispatchError, MeasurementError, StoreUnavailableError

_TRANSIENT = (StoreUnavailableError, MeasurementError, DeviceBusyError, DispatchError)


T = TypeVar("T")


class TaskOptions(TypedDict):
    """Keyword arguments of `prefect.task`."""

    cache_policy: CachePolicy
    persist_result: bool


class RetryingTaskOptions(TaskOptions):
    """The same, with retries."""

    retries: int
    retry_delay_seconds: Any
    retry_jitter_factor: float
    retry_condition_fn: Any


async def is_transient(task: Any, run: Any, state: Any) -> bool:  # noqa: ARG001 (Prefect's signature)
    """Tell whether trying again may help: bad input and full disks stay what they are."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, _TRANSIENT)


PLAIN: TaskOptions = {"cache_policy": NO_CACHE, "persist_result": False}
RETRIED: RetryingTaskOptions = {
    **PLAIN,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=1),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
}


def whole(argument: T) -> T:
    """Hand a large argument to a task as it is: Prefect would walk through every field of every record in it."""
    return cast(T, quote(argument))
