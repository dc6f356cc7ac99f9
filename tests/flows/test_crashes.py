"""A sweep that is killed, at any moment, and started again: nothing is lost, nothing complete is done twice."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from secateur.results import StudyResults
from secateur.store import StudyFiles, open_store
from tests.flows.conftest import Runs
from tests.flows.tiny import write_study

KILLED = -9
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
    """A run that nobody interrupted."""

    events: list[str]
    results: StudyResults


@pytest.fixture(scope="module")
def reference(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("reference")
    study = _study(folder)
    assert runs.run(study, folder / "log") == 0
    assert _count(folder / "log", "trained") == NUM_NETWORKS
    assert _count(folder / "log", "measured") == NUM_NETWORKS
    lines = [line.partition(" ")[2] for line in (folder / "log").read_text().splitlines()]
    events = [line.removeprefix("event ") for line in lines if line.startswith("event ")]
    return Reference(events, _files(study).results())


def test_every_event_there_is_was_seen(reference: Reference) -> None:
    parts = ("acquire", "dispatch", "runner", "measure", "objects", "cache", "baselines", "trials", "report", "lease")
    for part in parts:
        assert any(event.startswith("before ") and part in event for event in reference.events), part


def test_a_sweep_that_is_killed_again_and_again_gets_there(runs: Runs, reference: Reference, tmp_path: Path) -> None:
    study = _study(tmp_path)
    # Each of these is the first of its kind that a run comes upon after the one before.
    for event in ("after put cache/compressed", "before put cache/latency", "after put studies/tiny/trials/0.json"):
        _run_and_check(runs, study, tmp_path / "log", kill_at=_number(reference, event))
    _finish_and_check(runs, study, tmp_path / "last", reference)


@pytest.mark.slow
def test_a_sweep_can_be_killed_at_every_event(runs: Runs, reference: Reference, tmp_path: Path) -> None:
    # Between an event "after" and the next "before" the store does not change: one of the two is enough.
    befores = [i for i, event in enumerate(reference.events, start=1) if event.startswith("before")]
    for number in (*befores, len(reference.events)):
        folder = tmp_path / str(number)
        folder.mkdir()
        study = _study(folder)
        _run_and_check(runs, study, folder / "log", kill_at=number)
        _finish_and_check(runs, study, folder / "last", reference)


@pytest.mark.slow
def test_a_sweep_can_be_killed_at_any_moment(runs: Runs, reference: Reference, tmp_path: Path) -> None:
    study, rng = _study(tmp_path), random.Random(0)
    for _ in range(10):
        _run_and_check(runs, study, tmp_path / "log", kill_after_s=rng.uniform(0.5, 5.0))
    _finish_and_check(runs, study, tmp_path / "last", reference)


def _run_and_check(runs: Runs, study: Path, log: Path, **how: Any) -> None:
    """Run a study and kill it (unless it is done before that); check that what was complete is left as it was."""
    before = _look(study)
    log.unlink(missing_ok=True)
    assert runs.run(study, log, **how) in {KILLED, 0}, log.with_suffix(".out").read_text()
    assert runs.left_behind() == []
    after = _look(study)
    assert {label: after.finished[label] for label in before.finished} == before.finished
    assert _count(log, "trained") <= NUM_NETWORKS - before.num_trained
    assert _count(log, "measured") <= NUM_NETWORKS - before.num_measured


def _finish_and_check(runs: Runs, study: Path, log: Path, reference: Reference) -> None:
    """Run a study to its end; check that it is the same as one that was never interrupted."""
    before = _look(study)
    assert runs.run(study, log) == 0, Path(f"{log}.out").read_text()
    assert runs.left_behind() == []
    after = _look(study)
    assert {label: after.finished[label] for label in before.finished} == before.finished
    assert _count(log, "trained") == NUM_NETWORKS - before.num_trained
    assert _count(log, "measured") == NUM_NETWORKS - before.num_measured
    results = _files(study).results()
    assert [trial.label for trial in results.trials] == [str(i) for i in range(NUM_TRIALS)]
    for record, expected in zip(_records(results), _records(reference.results), strict=True):
        assert record.is_finished
        assert record.parameters == expected.parameters
        assert record.compressed is not None
        assert expected.compressed is not None
        # Not the weights: a candidate that is left over alone is trained with more threads, which round otherwise.
        assert record.compressed.layers == expected.compressed.layers
    assert all(record.test is not None for record in results.baselines.values())
    assert {"report.html", "report.md"} <= {
        path.name for path in (study.parent / "store/studies/tiny/report").iterdir()
    }


def _study(folder: Path) -> Path:
    return write_study(folder, {"budget.trials": NUM_TRIALS})


def _files(study: Path) -> StudyFiles:
    return StudyFiles(open_store(str(study.parent / "store")), "tiny")


def _records(results: StudyResults) -> list[Any]:
    return [*results.baselines.values(), *results.trials]


def _look(study: Path) -> Snapshot:
    files = _files(study)
    if not files.exists():
        return Snapshot({}, 0, 0)
    finished = {r.label: r.model_dump(exclude={"test"}) for r in _records(files.results()) if r.is_finished}
    num_trained, num_measured = (len(files.store.list(f"cache/{kind}/")) for kind in ("compressed", "latency"))
    return Snapshot(finished, num_trained, num_measured)


def _number(reference: Reference, event: str) -> int:
    return reference.events.index(event) + 1


def _count(log: Path, what: str) -> int:
    return log.read_text().split().count(what) if log.exists() else 0
