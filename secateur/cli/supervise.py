"""Processes that outlive the command that starts them, and can be found and ended again: exactly these."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from secateur.errors import SecateurError

MARK = "SECATEUR_UP"
"""A variable that marks a process and all that descend from it, whoever adopts them later."""
_POLL_S = 0.1
_START_TOLERANCE_S = 2.0


class Started(BaseModel):
    """One process, by what identifies it: pids are used again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    pid: int
    started_at: float
    """Seconds since the epoch."""
    arguments: tuple[str, ...]

    def process(self) -> psutil.Process | None:
        """Return the process if it is alive."""
        try:
            process = psutil.Process(self.pid)
            # The system derives a start time from the clock of that moment: it moves when the clock is set.
            is_same = abs(process.create_time() - self.started_at) < _START_TOLERANCE_S
        except psutil.NoSuchProcess:
            return None
        return process if is_same and _is_alive(process) else None


class State(BaseModel):
    """What was started from a folder; ``state.json`` there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mark: str
    port: int
    started: tuple[Started, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read the state of a folder; None: nothing was started from it.

        Raises:
            SecateurError: The file is damaged.
        """
        path = folder / "state.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as exc:
            problem = exc.errors(include_url=False)[0]["msg"]
            raise SecateurError(
                f"{path}: damaged: {problem}. End what 'ps' shows with {folder}, then remove it."
            ) from None

    def save(self, folder: Path) -> None:
        """Write it, atomically."""
        new = folder / "state.json.new"
        new.write_text(self.model_dump_json(indent=1), encoding="utf-8")
        new.replace(folder / "state.json")

    def alive(self) -> list[Started]:
        """Return what still runs, in the order in which it was started."""
        return [started for started in self.started if started.process() is not None]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other commands from starting or ending anything from `folder` meanwhile.

    Raises:
        SecateurError: One is at it, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(folder / "lock", timeout=0):
            yield
    except Timeout:
        raise SecateurError(f"{folder}: another 'secateur up' or 'down' is at work there; wait for it.") from None
    except OSError as exc:
        raise SecateurError(f"{folder}: cannot be used: {exc.strerror}. Choose another --folder.") from exc


def start(
    folder: Path, state: State, name: str, arguments: Sequence[str], environment: Mapping[str, str], working_dir: Path
) -> State:
    """Start a process in a session of its own, note that in the state, and return the state."""
    log_path = log_of(folder, name)
    log_path.parent.mkdir(exist_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            arguments,
            env={**environment, MARK: _mark(state, name)},
            cwd=working_dir,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process.returncode = 0  # it outlives us: nobody is to warn that we do not wait for it
    started = Started(
        name=name,
        pid=process.pid,
        started_at=psutil.Process(process.pid).create_time(),
        arguments=tuple(arguments),
    )
    others = tuple(other for other in state.started if other.name != name)
    state = state.model_copy(update={"started": (*others, started)})
    state.save(folder)
    return state


def wait_until(is_ready: Callable[[], bool], started: Started, folder: Path, timeout_s: float) -> None:
    """Return when a process is ready.

    Raises:
        SecateurError: It ended, or is not ready in time; the text shows the end of its log.
    """
    deadline = time.monotonic() + timeout_s
    while not is_ready():
        is_alive = started.process() is not None
        if not is_alive or time.monotonic() > deadline:
            problem = f"did not answer within {timeout_s:.0f} s" if is_alive else "ended at once"
            log_path = log_of(folder, started.name)
            tail = log_path.read_text(errors="replace").strip().splitlines()[-8:]
            raise SecateurError(
                "\n  ".join([f"{started.name} {problem}; all was ended again. Its log is {log_path}:", *tail])
            )
        time.sleep(_POLL_S)


def log_of(folder: Path, name: str) -> Path:
    """Return the file that a process writes to."""
    return folder / "logs" / f"{name.replace(' ', '-')}.log"


def end(state: State, names: Collection[str], grace_s: float) -> list[Started]:
    """End processes and all that descends from them: asked first, killed after `grace_s`; return those that ran."""
    ran = [started for started in state.alive() if started.name in names]
    family = _family(state, names)
    for process in family:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while (family := [process for process in family if _is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    for process in family:
        _signal(process, signal.SIGKILL)
    while any(_is_alive(process) for process in family):
        time.sleep(_POLL_S)
    return ran


def _family(state: State, names: Collection[str]) -> list[psutil.Process]:
    """Return processes, their descendants, and those that were adopted by others when their parent was killed."""
    roots = [process for started in state.started if started.name in names if (process := started.process())]
    marks = {_mark(state, name) for name in names}
    roots += [process for process in psutil.process_iter() if _environment(process).get(MARK) in marks]
    return [*{process for root in roots for process in [root, *_descendants(root)]}]


def _mark(state: State, name: str) -> str:
    return f"{state.mark}/{name}"


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):  # gone, or somebody else's
        return {}


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
