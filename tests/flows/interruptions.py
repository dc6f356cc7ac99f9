"""What the tests of killed sweeps share: how one is begun, ended, and compared with one that nobody interrupted."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def undisturbed(runs: Runs, folder: Path) -> Reference:
    ended = runs.run(folder, *SWEEP)
    assert ended.code == 0, ended.err
    assert (ended.trained, ended.measured) == (NUM_NETWORKS, NUM_NETWORKS)
    return Reference(folder, ended.events, files_of(folder).results())


def run_and_check(runs: Runs, folder: Path, *, kill_at: int) -> None:
    before = look(folder)
    ended = runs.run(folder, *SWEEP, kill_at=kill_at)
    assert ended.code == KILLED, ended.err
    check(folder, before, ended)


def check(folder: Path, before: Snapshot, ended: Ended) -> None:
    """Check that what was complete before a command is left as it was, and was not done again."""
    assert left_in(folder) == []
    after = look(folder)
    assert {label: after.finished[label] for label in before.finished} == before.finished
    assert ended.trained <= NUM_NETWORKS - before.num_trained
    assert ended.measured <= NUM_NETWORKS - before.num_measured


def finish_and_check(runs: Runs, folder: Path, reference: Reference) -> None:
    """Run a sweep to its end; check that its study is the same as one that was never interrupted."""
    before = look(folder)
    ended = runs.run(folder, *SWEEP)
    assert ended.code == 0, ended.err
    check(folder, before, ended)
    assert ended.trained == NUM_NETWORKS - before.num_trained
    assert ended.measured == NUM_NETWORKS - before.num_measured
    results = files_of(folder).results()
    assert [trial.label for trial in results.trials] == [str(i) for i in range(NUM_TRIALS)]
    for record, expected in zip(records_of(results), records_of(reference.results), strict=True):
        assert record.is_finished
        assert record.parameters == expected.parameters
        assert record.compressed is not None
        assert expected.compressed is not None
        # Not the weights: a candidate that is left over alone is trained with more threads, which round otherwise.
        assert record.compressed.layers == expected.compressed.layers
    assert all(record.test is not None for record in results.baselines.values())
    report = folder / "store/studies/tiny/report"
    assert {path.name for path in report.iterdir()} >= {"report.html", "report.md", "trade-off.png", "trials.csv"}


def kill_at_every_event(runs: Runs, reference: Reference, folder: Path, *, gate: bool) -> None:
    """Kill a sweep at each event of an undisturbed one, each time from its very beginning; check that it gets there."""
    # Between an event "after" and the next "before" the store does not change: one of the two is enough.
    befores = [i for i, event in enumerate(reference.events, start=1) if event.startswith("before")]
    for number in (*befores, len(reference.events)):
        own = begin(folder / str(number), gate=gate)
        run_and_check(runs, own, kill_at=number)
        finish_and_check(runs, own, reference)


def begin(folder: Path, *, gate: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    write_study(folder, {"budget.trials": NUM_TRIALS, "gate": gate})
    return folder


def files_of(folder: Path) -> StudyFiles:
    return StudyFiles(open_store(str(folder / "store")), "tiny")


def records_of(results: StudyResults) -> list[TrialRecord]:
    return [*results.baselines.values(), *results.trials]


def look(folder: Path) -> Snapshot:
    files = files_of(folder)
    if not files.exists():
        return Snapshot({}, 0, 0)
    finished = {r.label: r.model_dump(exclude={"test"}) for r in records_of(files.results()) if r.is_finished}
    networks = [get_json(files.store, key) for key in files.store.list("cache/compressed/")]
    num_trained = sum(network["epochs"][-1]["epoch"] >= 0 for network in networks)
    return Snapshot(finished, num_trained, num_measured=len(files.store.list("cache/latency/")))
