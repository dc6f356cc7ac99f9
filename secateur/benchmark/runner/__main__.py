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
import json
import threading
from typing import Any

from secateur.benchmark.runner.locks import take_locks
from secateur.benchmark.runner.measurement import convert, describe, evaluate, list_devices, measure, query
from secateur.benchmark.runner.problem import RunnerError

COMMANDS = {
    "measure": measure,
    "evaluate": evaluate,
    "convert": convert,
    "query": query,
    "describe": describe,
    "devices": list_devices,
}


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
        if "locks" in request:
            take_locks(request["locks"], output)
        output.emit("result", **COMMANDS[request["command"]](request, output))
    except RunnerError as error:
        output.emit("error", kind=error.kind, message=str(error))
    os._exit(0)  # taking OpenVINO down would take longer than it is worth


if __name__ == "__main__":
    main()
