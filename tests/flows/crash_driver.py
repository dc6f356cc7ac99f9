"""Run commands in processes that kill themselves: `python -m tests.flows.crash_driver`.

It reads requests from stdin, a JSON line each, and answers each with two lines, one at once, one at the end::

    {"arguments": ["sweep", "study.yaml"],    # or ["python", "a.module"]
     "folder": path, "log": path,
     "kill_at": 17,             # at the 17th event, from 1; 0: not
     "full_at": "objects/"}     # the disk is full for keys that begin so; "": never
    {"pid": 4711}
    {"status": -9}              # as `subprocess` counts: negative, a signal

What the command prints goes to `log`.out and `log`.err. Events are the moments before and after every write to the
store and every hand-over; each is a line of `log`, and so is each training and each network measured. Every command is
a fork of this process, which has imported everything already.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from flows import choose_champion, flow_run, prepare_baseline, remeasure_champion, sweep_study
from secateur import benchmark, candidate
from secateur.benchmark.process import RunnerProcess
from secateur.cli import analysis, champion, collect, devices, inspect_network, main, prune, remeasure, run
from secateur.export import export_onnx
from secateur.store import StudyLease
from secateur.store.directory import DirectoryStore
from tests.flows.tiny import SIZE, network


class Journal:
    """Notes events, and ends this process group at one of them, as `kill -9` does."""

    def __init__(self, path: Path, kill_at: int) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._kill_at = kill_at
        self._num_events = 0
        self._lock = threading.Lock()

    def note(self, what: str) -> None:
        """Write a line."""
        with self._lock:
            self._file.write(f"{what}\n")
            self._file.flush()

    def event(self, what: str) -> None:
        """Write a line, and die if this is the moment."""
        self.note(f"event {what}")
        with self._lock:
            self._num_events += 1
            if self._num_events == self._kill_at:
                os.killpg(0, signal.SIGKILL)

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        """An event before, and one after."""
        self.event(f"before {what}")
        yield
        self.event(f"after {what}")


def watch(journal: Journal) -> None:
    """Make every write and every hand-over of this process known to the journal."""

    def wrap(owner: Any, name: str, describe: Callable[..., str]) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with journal.around(describe(*args, **kwargs)):
                return original(*args, **kwargs)

        setattr(owner, name, wrapped)

    wrap(DirectoryStore, "put", lambda _, key, *args, **kwargs: f"put {_anonymous(key)}")
    wrap(DirectoryStore, "delete", lambda _, key: f"delete {_anonymous(key)}")
    wrap(StudyLease, "acquire", lambda *args: "acquire")
    wrap(RunnerProcess, "__init__", lambda _, command, environment, request: f"runner {request['command']}")
    wrap(benchmark, "measure", lambda *args, **kwargs: "measure")
    for module in (sweep_study, prepare_baseline):
        _wrap_dispatch(module, journal)

    train, measure = candidate.train, benchmark.measure

    def noted_train(*args: Any, **kwargs: Any) -> Any:
        result = train(*args, **kwargs)
        journal.note("trained")
        return result

    def noted_measure(paths: Any, *args: Any, **kwargs: Any) -> Any:
        result = measure(paths, *args, **kwargs)
        journal.note("measured " * len(paths))
        return result

    candidate.train, benchmark.measure = noted_train, noted_measure  # type: ignore[assignment]


def _wrap_dispatch(module: Any, journal: Journal) -> None:
    original = module.run_child

    async def run_child(flow: Any, *args: Any, **kwargs: Any) -> None:
        with journal.around(f"dispatch {flow.name}"):
            await original(flow, *args, **kwargs)

    module.run_child = run_child


def _anonymous(key: str) -> str:
    """Return a key without what differs from run to run."""
    folder, _, name = key.rpartition("/")
    return folder if len(name.removesuffix(".json")) == 64 else key


def fill_disk(prefix: str) -> None:
    """Let every write of a key that begins with `prefix` fail."""
    written = DirectoryStore._written
    put = DirectoryStore.put

    def failing_put(store: DirectoryStore, key: str, *args: Any, **kwargs: Any) -> bool:
        with patch.object(DirectoryStore, "_written", no_space if key.startswith(prefix) else written):
            return put(store, key, *args, **kwargs)

    def no_space(*args: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    DirectoryStore.put = failing_put  # type: ignore[method-assign]


def _run(request: dict[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    for descriptor, suffix in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{request['log']}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    watch(Journal(Path(request["log"]), request["kill_at"]))
    if request["full_at"]:
        fill_disk(request["full_at"])
    sys.argv = ["secateur", *request["arguments"]]
    code = 0
    try:
        if request["arguments"][0] == "python":
            runpy.run_module(request["arguments"][1], run_name="__main__")
        else:
            main.main()
    except SystemExit as exc:
        code = int(exc.code or 0)
    except BaseException:  # noqa: BLE001 (as the interpreter would)
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _warm_up() -> None:
    torch.set_num_threads(1)  # with more, a fork would wait for threads that it does not have
    export_onnx(network(3), SIZE)
    imported = (analysis, champion, collect, devices, flow_run, inspect_network, prune, remeasure, run)
    assert all((*imported, choose_champion, remeasure_champion))  # as their commands do


def serve() -> None:
    """Serve requests until stdin ends: each begins a command, and a line after it asks how that ended."""
    _warm_up()
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(request)
        print(json.dumps({"pid": pid}), flush=True)
        sys.stdin.readline()  # before it is asked for, an ended command keeps its process id: it can still be killed
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    serve()
