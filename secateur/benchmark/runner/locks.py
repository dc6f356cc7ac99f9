"""The locks of a measurement, held until this process ends: `secateur.turns` says what they mean."""

from __future__ import annotations

import fcntl
import math
import os
import time
from pathlib import Path
from typing import Any, TextIO

from secateur.benchmark.runner.host import read_text
from secateur.benchmark.runner.measurement import Output
from secateur.benchmark.runner.problem import RunnerError

POLL_S = 0.05

_held: list[TextIO] = []
"""Open files: closing one would free its lock."""


def take_locks(locks: dict[str, Any], output: Output) -> None:
    """Take the device, and the host: for this process alone, or shared with others that are not exclusive.

    Raises:
        RunnerError: Somebody held one of them all the time.
    """
    timeout_s, mode = locks["timeout_s"], fcntl.LOCK_EX if locks["is_exclusive"] else fcntl.LOCK_SH
    _take(locks["device"], fcntl.LOCK_EX, timeout_s, "process {holder} measures on it", output)
    queue = _take(locks["queue"], mode, timeout_s, "process {holder} has the host for itself", output)
    _take(locks["host"], mode, timeout_s, "other work on this host has yet to pause", output)
    if mode == fcntl.LOCK_SH:
        fcntl.flock(queue, fcntl.LOCK_UN)


def _take(path: str, mode: int, timeout_s: float, reason: str, output: Output) -> TextIO:
    file = Path(path).open("a+", encoding="utf-8")  # noqa: SIM115 (open until the process ends)
    _held.append(file)
    started, announced = time.monotonic(), -math.inf
    while not _try(file, mode):
        now, told = time.monotonic(), reason.format(holder=read_text(path) or "unknown")
        if now - started >= timeout_s:
            raise RunnerError("busy", f"{told}, for {timeout_s:g} s by now (lock file {path})")
        if now - announced >= 1.0:
            output.emit("waiting", reason=told)
            announced = now
        time.sleep(POLL_S)
    if mode == fcntl.LOCK_EX:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    return file


def _try(file: TextIO, mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
