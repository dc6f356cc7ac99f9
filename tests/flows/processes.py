"""Who is still there? Processes by the folder that they work in, which those they start inherit."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil

GRACE_S = 10.0


def at_work_in(folder: Path) -> list[psutil.Process]:
    """Return all processes whose working directory is `folder`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.cwd() == str(folder.resolve()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def left_in(folder: Path, known: Collection[int] = ()) -> list[list[str]]:
    """Return the command lines of processes that work in `folder`, when they have had time to end."""
    deadline = time.monotonic() + GRACE_S
    while left := [process for process in at_work_in(folder) if process.pid not in known]:
        if time.monotonic() > deadline:
            return [_command(process) for process in left]
        time.sleep(0.1)
    return []


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        return process.cmdline()
    return []
