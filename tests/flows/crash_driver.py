"""Run studies in processes that kill themselves: `python -m tests.flows.crash_driver`.

It reads requests from stdin, a JSON line each, and answers each with a line::

    {"study": path, "store": path, "log": path, "kill_at": 17}     # at the 17th event, from 1; 0: not
    {"status": -9}                                                  # as `subprocess` counts: negative, a signal

Events are the moments before and after every write to the store and every hand-over; each is a line of `log`, and so is
each training and each network measured. Every run is a fork of this process, which has imported everything already.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from flows import flow_run, local_run, prepare_baseline, sweep_study
from secateur import benchmark, candidate
from secateur.benchmark.process import RunnerProcess
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
            self._file.write(f"{time.monotonic():.2f} {what}\n")
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
    wrap(RunnerProcess, "__init__", lambda _, runner, request: f"runner {request['command']}")
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


def _run(request: dict[str, Any]) -> None:
    os.setsid()
    log = os.open(f"{request['log']}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        watch(Journal(Path(request["log"]), request["kill_at"]))
        local_run.run_study(request["study"], store=request["store"])
    except BaseException:  # noqa: BLE001 (the parent is told by the exit code, the log says the rest)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _warm_up() -> None:
    torch.set_num_threads(1)  # with more, a fork would wait for threads that it does not have
    export_onnx(network(3), SIZE)
    assert flow_run  # imported, as running a study does


def main() -> None:
    """Serve requests until stdin ends."""
    _warm_up()
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(request)
        if delay_s := request.get("kill_after_s"):
            time.sleep(delay_s)
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
