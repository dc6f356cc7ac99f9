"""A sweep that is killed, at any moment, and started again: nothing is lost, nothing complete is done twice."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from secateur.results import StudyResults, TrialRecord
from secateur.store import StudyFiles, get_json, open_store
from tests.flows.processes import left_in
from tests.flows.tiny import write_study
from tests.runs import Ended, Runs

SWEEP = ("sweep", "study.yaml", "--store", "store")
KILLED = -signal.SIGKILL
NUM_TRIALS = 2
NUM_NETWORKS = NUM_TRIALS + 2
"""Trials and baselines: each is trained once, and measured once."""


@dataclass(frozen=True)
class Snapshot:
    """What a store holds that must not be done again."""

    finished: dict[str, dict[str, Any]]
    """Records of trials and baselines, by label; test scores, which come last, left out."""
    num_trained: int
    num_measured: int


@dataclass(frozen=True)
class Reference:
    """A sweep that nobody interrupted."""

    folder: Path
    events: list[str]
    results: StudyResults


@pytest.fixture(scope="module")
def reference(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return _undisturbed(runs, _begin(tmp_path_factory.mktemp("reference")))


@pytest.fixture(scope="module")
def gated(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Its trials are exported, measured and judged before they are trained."""
    return _undisturbed(runs, _begin(tmp_path_factory.mktemp("gated"), gate=True))


def _undisturbed(runs: Runs, folder: Path) -> Reference:
    ended = runs.run(folder, *SWEEP)
    assert ended.code == 0, ended.err
    assert (ended.trained, ended.measured) == (NUM_NETWORKS, NUM_NETWORKS)
    return Reference(folder, ended.events, _files(folder).results())


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
    folder = _begin(tmp_path)
    _run_and_check(runs, folder, kill_at=reference.events.index("after put cache/compressed") + 1)
    _fill_the_disk_and_check(runs, folder)
    _run_and_check(runs, folder, kill_at=reference.events.index("before measure") + 1)
    _finish_and_check(runs, folder, reference)


@pytest.mark.slow
def test_a_gated_sweep_that_is_killed_after_measuring_gets_there(runs: Runs, gated: Reference, tmp_path: Path) -> None:
    folder = _begin(tmp_path, gate=True)
    _, before_training, _ = [i for i, event in enumerate(gated.events) if event == "after dispatch measure"]
    _run_and_check(runs, folder, kill_at=before_training + 1)  # or near it: a lease is renewed now and then
    assert not any(trial.is_finished for trial in _files(folder).trials())
    _finish_and_check(runs, folder, gated)
    assert all(trial.gate is not None and trial.gate.can_win for trial in _files(folder).trials())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reference", "gated"])
def test_a_sweep_can_be_killed_at_every_event(
    runs: Runs, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    reference: Reference = request.getfixturevalue(kind)
    # Between an event "after" and the next "before" the store does not change: one of the two is enough.
    befores = [i for i, event in enumerate(reference.events, start=1) if event.startswith("before")]
    for number in (*befores, len(reference.events)):
        folder = _begin(tmp_path / str(number), gate=kind == "gated")
        _run_and_check(runs, folder, kill_at=number)
        _finish_and_check(runs, folder, reference)


@pytest.mark.slow
def test_a_sweep_can_be_killed_at_any_moment(runs: Runs, reference: Reference, tmp_path: Path) -> None:
    folder, rng = _begin(tmp_path), random.Random(0)
    for _ in range(10):
        before = _look(folder)
        pid = runs.start(folder, *SWEEP)
        time.sleep(rng.uniform(0.5, 5.0))
        os.killpg(pid, signal.SIGKILL)  # it may have ended: until `wait`, the number is its own
        _check(folder, before, runs.wait())
    _finish_and_check(runs, folder, reference)


def _fill_the_disk_and_check(runs: Runs, folder: Path) -> None:
    """Run a sweep that finds no space for its second trial."""
    before = _look(folder)
    ended = runs.run(folder, *SWEEP, full_at="studies/tiny/trials/1")
    assert ended.code == 1
    message = "cannot be written: No space left on device. Free some space there, or choose another store."
    assert ended.err.count("secateur: ") == 1
    assert ended.err.rstrip().endswith(message)
    assert "Traceback" not in ended.err
    _check(folder, before, ended)
    assert set(_look(folder).finished) == {"unpruned", "off_the_shelf"}


def _run_and_check(runs: Runs, folder: Path, *, kill_at: int) -> None:
    before = _look(folder)
    ended = runs.run(folder, *SWEEP, kill_at=kill_at)
    assert ended.code == KILLED, ended.err
    _check(folder, before, ended)


def _check(folder: Path, before: Snapshot, ended: Ended) -> None:
    """Check that what was complete before a command is left as it was, and was not done again."""
    assert left_in(folder) == []
    after = _look(folder)
    assert {label: after.finished[label] for label in before.finished} == before.finished
    assert ended.trained <= NUM_NETWORKS - before.num_trained
    assert ended.measured <= NUM_NETWORKS - before.num_measured


def _finish_and_check(runs: Runs, folder: Path, reference: Reference) -> None:
    """Run a sweep to its end; check that its study is the same as one that was never interrupted."""
    before = _look(folder)
    ended = runs.run(folder, *SWEEP)
    assert ended.code == 0, ended.err
    _check(folder, before, ended)
    assert ended.trained == NUM_NETWORKS - before.num_trained
    assert ended.measured == NUM_NETWORKS - before.num_measured
    results = _files(folder).results()
    assert [trial.label for trial in results.trials] == [str(i) for i in range(NUM_TRIALS)]
    for record, expected in zip(_records(results), _records(reference.results), strict=True):
        assert record.is_finished
        assert record.parameters == expected.parameters
        assert record.compressed is not None
        assert expected.compressed is not None
        # Not the weights: a candidate that is left over alone is trained with more threads, which round otherwise.
        assert record.compressed.layers == expected.compressed.layers
    assert all(record.test is not None for record in results.baselines.values())
    report = folder / "store/studies/tiny/report"
    assert {path.name for path in report.iterdir()} >= {"report.html", "report.md", "trade-off.png", "trials.csv"}


def _begin(folder: Path, *, gate: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    write_study(folder, {"budget.trials": NUM_TRIALS, "gate": gate})
    return folder


def _files(folder: Path) -> StudyFiles:
    return StudyFiles(open_store(str(folder / "store")), "tiny")


def _records(results: StudyResults) -> list[TrialRecord]:
    return [*results.baselines.values(), *results.trials]


def _look(folder: Path) -> Snapshot:
    files = _files(folder)
    if not files.exists():
        return Snapshot({}, 0, 0)
    finished = {r.label: r.model_dump(exclude={"test"}) for r in _records(files.results()) if r.is_finished}
    networks = [get_json(files.store, key) for key in files.store.list("cache/compressed/")]
    num_trained = sum(network["epochs"][-1]["epoch"] >= 0 for network in networks)
    return Snapshot(finished, num_trained, num_measured=len(files.store.list("cache/latency/")))


def _written(store: Path) -> dict[Path, int]:
    return {path.relative_to(store): path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}
