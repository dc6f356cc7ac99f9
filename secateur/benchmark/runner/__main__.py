"""The program: one request from stdin, its answer on stdout. The package's docstring tells the protocol."""

from __future__ import annotations

import os
import sys
import types

if not __package__:
    # Started by path: this folder, which Python has put first on sys.path, must shadow nothing, and secateur need not
    # be installed here. Its packages are named without being run, so that the modules below find one another.
    _folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib is not imported yet)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != _folder]  # noqa: PTH100
    for _depth, _name in ((2, "secateur"), (1, "secateur.benchmark"), (0, "secateur.benchmark.runner")):
        _package = types.ModuleType(_name)
        _package.__path__ = [os.path.normpath(os.path.join(_folder, *[os.pardir] * _depth))]  # noqa: PTH118
        sys.modules[_name] = _package
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy would start a thread for each core, and wait for them

import faulthandler
import fcntl
import json
import math
import threading
import time
from pathlib import Path
from typing import Any, TextIO

from secateur.benchmark.runner.host import read_text
from secateur.benchmark.runner.measurement import describe, evaluate, list_devices, measure, query
from secateur.benchmark.runner.problem import RunnerError

LOCK_POLL_S = 0.05

COMMANDS = {"measure": measure, "evaluate": evaluate, "query": query, "describe": describe, "devices": list_devices}


class Output:
    """The protocol's way out; what a library prints to stdout goes to stderr from now on."""

    def __init__(self, timeout_s: float) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._timeout_s = timeout_s
        os.dup2(2, 1)
        self._stay_alive()

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event."""
        self._stay_alive()
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        self._file.flush()

    def _stay_alive(self) -> None:
        # A native call that hangs may hold the interpreter, and `_end_with_parent` with it. This ends the process all
        # the same, and says where it was.
        faulthandler.dump_traceback_later(self._timeout_s, exit=True)


def take_lock(file: TextIO, timeout_s: float, output: Output) -> None:
    """Lock the device; the operating system frees it when this process ends, in whatever way.

    Raises:
        RunnerError: Another process held it all the time.
    """
    started, announced = time.monotonic(), -math.inf
    while not _try_lock(file):
        now = time.monotonic()
        holder = read_text(file.name) or "unknown"
        if now - started >= timeout_s:
            raise RunnerError("busy", f"process {holder} held it for {timeout_s:g} s (lock file {file.name})")
        if now - announced >= 1.0:
            output.emit("waiting", holder=holder)
            announced = now
        time.sleep(LOCK_POLL_S)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Serve one request."""
    faulthandler.enable()
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    output = Output(request["timeout_s"])
    try:
        if "lock" in request:
            lock_file = Path(request["lock"]).open("a+", encoding="utf-8")  # noqa: SIM115 (open until the process ends)
            take_lock(lock_file, request["lock_timeout_s"], output)
        output.emit("result", **COMMANDS[request["command"]](request, output))
    except RunnerError as error:
        output.emit("error", kind=error.kind, message=str(error))
    os._exit(0)  # taking OpenVINO down would take longer than it is worth


if __name__ == "__main__":
    main()
