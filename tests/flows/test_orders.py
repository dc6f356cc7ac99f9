"""What somebody says to a sweep that is running: pause, resume, cancel, Ctrl-C; and what it says of itself."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.store import StudyFiles, open_store, read_lease
from tests.cli.conftest import Secateur
from tests.flows.processes import left_in
from tests.flows.tiny import write_study
from tests.runs import Runs

STORE = ("--store", "store")
SWEEP = ("sweep", "study.yaml", *STORE)
PATIENCE_S = 120.0


def test_a_sweep_is_paused_resumed_and_cancelled(runs: Runs, secateur: Secateur, tmp_path: Path) -> None:
    write_study(tmp_path, {"budget.trials": 1000, "budget.parallel": 1})
    files = StudyFiles(open_store(str(tmp_path / "store")), "tiny")
    files.write_control("cancel")  # by somebody who was too late for an earlier sweep: it is not for this one
    pid = runs.start(tmp_path, *SWEEP)
    _wait_until(lambda: files.exists())

    assert "pauses after the trial at hand" in secateur("pause", "tiny", *STORE).out
    _wait_until(lambda: (lease := read_lease(files.store, "tiny")) and lease.activity == "waiting")
    assert f"paused, waiting: process {pid}" in secateur("status", *STORE).out
    assert not files.trials()  # nothing is proposed before it is known what it is compared with
    assert secateur("resume", "tiny", *STORE).out == "tiny goes on.\n"
    _wait_until(lambda: sum(trial.is_finished for trial in files.trials()) > 1)

    (status,) = json.loads(secateur("status", "tiny", "--json", *STORE).out)["studies"]
    assert status["num_trials"] == 1000
    assert status["lease"]["pid"] == pid
    assert status["num_finished"] > 1
    busy = secateur(*SWEEP)  # a second one
    assert busy.code == 1
    assert f"study 'tiny' is being run by process {pid}" in busy.err

    assert "ends after the trial at hand" in secateur("cancel", "tiny", *STORE).out
    ended = runs.wait()
    assert ended.code == 1
    assert "tiny is paused; 'secateur resume tiny' lets it go on." in ended.err
    assert "study 'tiny' was cancelled; what it found is kept, and it can be continued." in ended.err
    assert "Traceback" not in ended.err
    assert read_lease(files.store, "tiny") is None
    assert files.read_control() == "run"  # the order was carried out
    assert left_in(tmp_path, known={os.getpid()}) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_ctrl_c_and_sigterm_end_a_sweep_at_once(runs: Runs, tmp_path: Path, number: signal.Signals) -> None:
    write_study(tmp_path, {"training.epochs": 20_000, "budget.trials": 1})
    files = StudyFiles(open_store(str(tmp_path / "store")), "tiny")
    pid = runs.start(tmp_path, *SWEEP)
    _wait_until(lambda: _state(files, "unpruned") == "compressed")
    time.sleep(0.5)  # into the first epochs of the next
    interrupted_at = time.monotonic()
    os.kill(pid, number)
    ended = runs.wait()
    assert time.monotonic() - interrupted_at < 10
    assert ended.code == 130
    said = [line for line in ended.err.splitlines() if line.startswith("secateur: ")]
    assert said == ["secateur: interrupted. Nothing that was complete is lost: the same command goes on from here."]
    assert "Traceback" not in ended.err
    assert "Error" not in ended.err
    assert left_in(tmp_path) == []
    assert (_state(files, "unpruned"), _state(files, "off_the_shelf")) == ("compressed", "proposed")
    assert read_lease(files.store, "tiny") is None


def _wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _state(files: StudyFiles, label: str) -> str | None:
    record = files.baselines().get(label)
    return record.state if record else None
