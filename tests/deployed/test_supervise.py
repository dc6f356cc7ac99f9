from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from secateur.cli import supervise
from secateur.cli.supervise import State
from secateur.errors import SecateurError

SLEEP = ["sleep", "600"]
PARENT = [sys.executable, "-c", "import subprocess, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"]
STUBBORN = [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"]

Start = Callable[[str, list[str]], State]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start processes; they end with the test."""
    State(mark="test", port=1).save(tmp_path)

    def start(name: str, arguments: list[str]) -> State:
        state = State.load(tmp_path)
        assert state is not None
        return supervise.start(tmp_path, state, name, arguments, dict(os.environ), tmp_path)

    yield start
    state = State.load(tmp_path)
    assert state is not None
    supervise.end(state, [started.name for started in state.started], 0.0)


def children(state: State) -> list[psutil.Process]:
    """Return the first process's children, when it has one."""
    parent = psutil.Process(state.started[0].pid)
    deadline = time.monotonic() + 20
    while not (found := parent.children()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def is_alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_started_processes_are_known_and_ended(start: Start, tmp_path: Path) -> None:
    start("one", SLEEP)
    state = start("two", SLEEP)
    assert state == State.load(tmp_path)
    assert [started.name for started in state.alive()] == ["one", "two"]
    assert os.getsid(state.started[0].pid) == state.started[0].pid
    assert [started.name for started in supervise.end(state, ["one"], 5.0)] == ["one"]
    assert [started.name for started in state.alive()] == ["two"]


def test_children_end_with_their_parent(start: Start) -> None:
    state = start("parent", PARENT)
    [child] = children(state)
    supervise.end(state, ["parent"], 5.0)
    assert not is_alive(child)


def test_orphans_are_found_by_their_mark(start: Start) -> None:
    state = start("parent", PARENT)
    [child] = children(state)
    os.kill(state.started[0].pid, signal.SIGKILL)
    os.waitpid(state.started[0].pid, 0)
    assert supervise.end(state, ["another"], 5.0) == []
    assert is_alive(child)
    assert supervise.end(state, ["parent"], 5.0) == []
    assert not is_alive(child)


def test_who_ignores_the_request_is_killed(start: Start) -> None:
    state = start("stubborn", STUBBORN)
    time.sleep(0.5)
    supervise.end(state, ["stubborn"], 0.3)
    assert state.alive() == []


def test_a_pid_that_was_used_again_is_spared(start: Start) -> None:
    state = start("bystander", SLEEP)
    other = state.started[0].model_copy(update={"started_at": state.started[0].started_at - 3600})
    mistaken = State(mark="other", port=1, started=(other,))
    assert mistaken.alive() == []
    assert supervise.end(mistaken, ["bystander"], 0.0) == []
    assert is_alive(psutil.Process(other.pid))


def test_a_process_that_ends_at_once(start: Start, tmp_path: Path) -> None:
    state = start("two words", [sys.executable, "-c", "print('no such pool')"])
    with pytest.raises(SecateurError, match=r"two words ended at once; .*two-words\.log:\n  no such pool"):
        supervise.wait_until(lambda: False, state.started[0], tmp_path, 20.0)


def test_a_process_that_does_not_answer(start: Start, tmp_path: Path) -> None:
    state = start("silent", SLEEP)
    with pytest.raises(SecateurError, match="silent did not answer within 0 s"):
        supervise.wait_until(lambda: False, state.started[0], tmp_path, 0.0)


def test_a_damaged_state(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(SecateurError, match=r"state\.json: damaged"):
        State.load(tmp_path)


def test_one_command_at_a_time(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "lock"),
        pytest.raises(SecateurError, match="another 'secateur up' or 'down' is at work there"),
        supervise.alone(tmp_path),
    ):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SecateurError, match=r"file/up: cannot be used: Not a directory. Choose another --folder"),
        supervise.alone(tmp_path / "file" / "up"),
    ):
        pass
