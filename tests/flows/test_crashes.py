"""A sweep that is killed, at any moment, and started again: nothing is lost, nothing complete is done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.flows.interruptions import (
    SWEEP,
    Reference,
    begin,
    check,
    finish_and_check,
    kill_at_every_event,
    look,
    run_and_check,
    undisturbed,
)
from tests.runs import Runs


@pytest.fixture(scope="module")
def reference(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return undisturbed(runs, begin(tmp_path_factory.mktemp("reference")))


def test_every_event_there_is_was_seen(reference: Reference) -> None:
    parts = ("acquire", "dispatch", "runner", "measure", "objects", "cache", "baselines", "trials", "report", "lease")
    for part in parts:
        assert any(event.startswith("before ") and part in event for event in reference.events), part


def test_a_second_run_finds_everything_done(runs: Runs, reference: Reference) -> None:
    before = _written(reference.folder / "store")
    ended = runs.run(reference.folder, *SWEEP)
    assert ended.code == 0, ended.err
    assert (ended.trained, ended.measured) == (0, 0)
    assert "tiny: 2 trials: 2 completed." in ended.out
    changed = {path for path, when in _written(reference.folder / "store").items() if before.get(path) != when}
    assert {path.parts[:3] for path in changed} == {("studies", "tiny", "report")}


def test_a_sweep_that_is_killed_and_finds_no_space_gets_there(runs: Runs, reference: Reference, tmp_path: Path) -> None:
    folder = begin(tmp_path)
    run_and_check(runs, folder, kill_at=reference.events.index("after put cache/compressed") + 1)
    _fill_the_disk_and_check(runs, folder)
    run_and_check(runs, folder, kill_at=reference.events.index("before measure") + 1)
    finish_and_check(runs, folder, reference)


@pytest.mark.slow
def test_a_sweep_can_be_killed_at_every_event(runs: Runs, reference: Reference, tmp_path: Path) -> None:
    kill_at_every_event(runs, reference, tmp_path, gate=False)


@pytest.mark.slow
def test_a_sweep_can_be_killed_at_any_moment(runs: Runs, reference: Reference, tmp_path: Path) -> None:
    folder, rng = begin(tmp_path), random.Random(0)
    for _ in range(10):
        before = look(folder)
        pid = runs.start(folder, *SWEEP)
        time.sleep(rng.uniform(0.5, 5.0))
        os.killpg(pid, signal.SIGKILL)  # it may have ended: until `wait`, the number is its own
        check(folder, before, runs.wait())
    finish_and_check(runs, folder, reference)


def _fill_the_disk_and_check(runs: Runs, folder: Path) -> None:
    """Run a sweep that finds no space for its second trial."""
    before = look(folder)
    ended = runs.run(folder, *SWEEP, full_at="studies/tiny/trials/1")
    assert ended.code == 1
    message = "cannot be written: No space left on device. Free some space there, or choose another store."
    assert ended.err.count("secateur: ") == 1
    assert ended.err.rstrip().endswith(message)
    assert "Traceback" not in ended.err
    check(folder, before, ended)
    assert set(look(folder).finished) == {"unpruned", "off_the_shelf"}


def _written(store: Path) -> dict[Path, int]:
    return {path.relative_to(store): path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
