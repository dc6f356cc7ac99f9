"""Whose turn it is on this host, by locks of the operating system: a killed holder frees his at once.

There is one set of locks for each user. All work of ours shares the host, but for a measurement whose device profile
is `exclusive`. That one first holds the *queue*, which others only pass through on their way to the *host*: so it waits
for the work that is under way, and for none that would come after. Processes in containers see one another's locks if
they share TMPDIR.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

from secateur import progress
from secateur.errors import MeasurementError

_is_working: ContextVar[bool] = ContextVar("secateur_is_working", default=False)


def device_lock(device: str) -> Path:
    """Return the file whose lock means that the device is being measured.

    Raises:
        MeasurementError: There is no place for locks.
    """
    return _folder() / f"{re.sub(r'[^A-Za-z0-9.]', '_', device)}.lock"


def queue_lock() -> Path:
    """Return the file whose lock means that somebody has the host for himself, or waits for that."""
    return _folder() / "queue-of-the-host.lock"


def host_lock() -> Path:
    """Return the file whose shared lock means that work is under way, and whose exclusive one that no other is."""
    return _folder() / "the-host.lock"


@contextmanager
def working() -> Iterator[None]:
    """Work on this host, never beside an exclusive measurement.

    Whatever is tracked inside this context (see `progress`) gives way to one between two pieces of work. Nothing may be
    measured inside it: the measurement would wait for its own caller.
    """
    if _is_working.get():
        yield
        return
    with ExitStack() as stack:
        queue, host = (stack.enter_context(path().open("a")) for path in (queue_lock, host_lock))
        token = _is_working.set(True)
        stack.callback(_is_working.reset, token)
        _begin(queue, host)
        stack.enter_context(progress.calling_between(lambda: _give_way(queue, host)))
        yield


def _begin(queue: TextIO, host: TextIO) -> None:
    fcntl.flock(queue, fcntl.LOCK_SH)
    fcntl.flock(host, fcntl.LOCK_SH)
    fcntl.flock(queue, fcntl.LOCK_UN)


def _give_way(queue: TextIO, host: TextIO) -> None:
    """Let those work who wait for the host; two system calls where nobody does."""
    try:
        fcntl.flock(queue, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(host, fcntl.LOCK_UN)
        _begin(queue, host)
    else:
        fcntl.flock(queue, fcntl.LOCK_UN)


def _folder() -> Path:
    try:
        folder = Path(tempfile.gettempdir()) / f"secateur-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise MeasurementError(f"The folder of the locks cannot be made: {exc}. Point TMPDIR at another one.") from None
    return folder
