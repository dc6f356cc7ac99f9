"""Several things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any


async def wait_for_all(awaitables: Iterable[Awaitable[Any]]) -> None:
    """Wait until all have ended, whatever becomes of one of them: what the others computed is kept.

    Raises:
        BaseException: What the first of them raised, if one did.
    """
    outcomes = await asyncio.gather(*awaitables, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
