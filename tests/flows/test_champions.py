"""What becomes of a finished study: a champion, nights, more trials, a clean store; real server, real device."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from secateur.store import StudyFiles, StudyLease, get_json, open_store, put_json, put_object
from secateur.thinning import rebuild
from tests.flows.tiny import SIZE, write_study
from tests.runs import Ended, Runs

pytestmark = pytest.mark.slow

STORE = ("--store", "store")
PROMOTE = ("champion", "study.yaml", "--promote", *STORE)
KILLED = -signal.SIGKILL
PATIENCE_S = 60.0
NUM_CONTENDERS, NUM_SEEDS = 2, 2
STUDY: dict[str, Any] = {
    "model": "python:tests.flows.tiny:wide_network",
    "search.parameters": {
        "pruner_0.desired_sparsity": {"values": [0.7, 0.9]},
        "pruner_1.desired_sparsity": {"values": [0.8, 0.9]},
    },
    "search.method": "grid",
    "search.constraints": [],
    "budget.trials": 2,
    "champion": {"contenders": NUM_CONTENDERS, "seeds": NUM_SEEDS, "margin": 1000.0},
}


@pytest.fixture(scope="module")
def folder(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study, whose champion was chosen in two attempts."""
    folder = tmp_path_factory.mktemp("champion")
    write_study(folder, STUDY)
    assert "no champion yet" not in _run(runs, folder, "sweep", "study.yaml", *STORE).out
    shown = _run(runs, folder, "champion", "tiny", *STORE)
    assert shown.out == "tiny has no champion yet. 'secateur champion tiny --choose' lets the best trials compete.\n"
    num_made = _num_made(folder) + NUM_CONTENDERS * NUM_SEEDS
    for kill_at in (40, 0):
        left = num_made - _num_made(folder)
        ended = runs.run(folder, *PROMOTE, kill_at=kill_at)
        assert ended.code == (KILLED if kill_at else 0), ended.err
        assert ended.trained <= left  # what was complete is not made twice
    assert _num_made(folder) == num_made
    assert "(*: the winner)" in ended.out
    assert "Champion: network " in ended.out
    return folder


def test_the_contest(folder: Path) -> None:
    files = _files(folder)
    (contest,) = files.contests()
    assert set(contest.trials) == {"0", "1"}
    assert contest.winner is not None
    for label in contest.contenders:
        record = files.read_record(label)
        assert record.seed in contest.seeds
        assert record.latency is not None
        assert record.latency.num_processes >= 5
        assert not record.latency.is_reused
        examination = files.read_examination(label)
        assert examination is not None
        assert examination.hits is not None
        assert set(examination.hits) <= {"0", "1"}
        assert len(examination.hits) == 12  # half of the test part
        assert examination.parity < 1e-4
    alias = files.read_champion()
    assert alias is not None
    promotion = alias.champion
    assert (promotion.test.num_images, len(promotion.test.accessed_at)) == (12, 1)
    untouched = [files.read_examination(label) for label in contest.contenders if label != promotion.record.label]
    assert all(examination is not None and examination.published is None for examination in untouched)


def test_again_it_has_nothing_to_do(runs: Runs, folder: Path) -> None:
    before = _files(folder).read_champion()
    ended = _run(runs, folder, *PROMOTE, "--json")
    assert (ended.trained, ended.measured) == (0, 0)
    document = json.loads(ended.out)
    assert document["contest"]["number"] == 1
    assert [line["is_current"] for line in document["history"]] == [True]
    assert _files(folder).read_champion() == before


def test_export(runs: Runs, folder: Path) -> None:
    _run(runs, folder, "champion", "tiny", "--export", "out", *STORE)
    out = folder / "out"
    names = {"champion.onnx", "champion.xml", "champion.bin", "champion.safetensors", "model-card.md"}
    assert {path.name for path in out.iterdir()} == names
    onnx.checker.check_model(str(out / "champion.onnx"))
    module = rebuild((out / "champion.safetensors").read_bytes()).module
    image = np.random.default_rng(0).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    (logits_NK,) = ReferenceEvaluator(str(out / "champion.onnx")).run(None, {"input": image})
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        assert np.abs(module(torch.from_numpy(image)).numpy() - logits_NK).max() < 1e-4
    card = (out / "model-card.md").read_text()
    assert card.startswith("# tiny: champion\n")
    assert str(folder) not in card


def test_nights(runs: Runs, folder: Path, prefect_environment: dict[str, str]) -> None:
    files = _files(folder)
    first = _run(runs, folder, "remeasure", "tiny", *STORE)
    assert "Too few nights to compare with (0, needed: 3)." in first.out
    (night,) = files.nights()
    assert set(night.reports) == {"off_the_shelf", "champion"}
    for number in range(1, 5):  # as if it had been twice as fast, night after night
        reports = {
            label: report.model_copy(
                update={
                    "reference_total_latency_ms": report.reference_total_latency_ms.model_copy(
                        update={"p50": report.reference_total_latency_ms.p50 / (100 + number)}
                    )
                }
            )
            for label, report in night.reports.items()
        }
        files.write_night(
            f"2020010{number}T040000Z",
            night.model_copy(update={"measured_at": f"2020-01-0{number}", "reports": reports}),
        )
    files.store.delete(files.store.list("studies/tiny/nights/2026")[0])
    drifted = runs.run(folder, "remeasure", "tiny", "--json", *STORE)
    assert drifted.code == 1
    document = json.loads(drifted.out)
    assert document["has_changed"] is True
    assert "secateur: study 'tiny': here: device: unpruned's total_latency_ms is " in drifted.err
    assert "Traceback" not in drifted.err
    url = prefect_environment["PREFECT_API_URL"]
    (run,) = _ask(url, "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["FAILED"]}}}})
    assert run["name"] == "remeasure tiny"
    event = _event(url, "secateur.drift")
    assert event["resource"]["prefect.resource.id"] == "secateur.study.tiny"
    assert event["payload"]["changes"] == document["told"]


def test_gc_keeps_all_that_is_named(runs: Runs, folder: Path) -> None:
    files = _files(folder)
    lost = put_object(files.store, b"nobody's")
    named = [key for key in files.store.list("objects/") if key != lost]
    dry = json.loads(_run(runs, folder, "gc", "--json", *STORE).out)
    assert (dry["is_freed"], dry["freed"], dry["num_freed"], dry["freed_bytes"]) == (False, [lost], 1, 8)
    assert lost in files.store.list("objects/")
    assert "Nothing was deleted. 'secateur gc --yes' does it." in _run(runs, folder, "gc", *STORE).out
    assert "Freed: 0.0 MB." in _run(runs, folder, "gc", "--yes", *STORE).out
    assert files.store.list("objects/") == named
    again = _run(runs, folder, "sweep", "study.yaml", *STORE)
    assert (again.trained, again.measured) == (0, 0)


def test_a_larger_budget_goes_on(runs: Runs, folder: Path) -> None:
    ended = _run(runs, folder, "sweep", "tiny", "--trials", "3", *STORE)
    assert "tiny: 3 trials: " in ended.out
    assert ended.trained == 1
    new = _files(folder).read_record("2")
    assert new.state in {"completed", "suspect"}  # so few images do not teach every processor's network three classes
    assert new.latency is not None


@pytest.mark.parametrize(
    "command",
    [("sweep", "study.yaml"), PROMOTE[:3], ("remeasure", "tiny"), ("gc", "--yes")],
    ids=lambda command: command[0],
)
def test_a_study_that_runs_elsewhere_is_left_alone(runs: Runs, folder: Path, command: tuple[str, ...]) -> None:
    files = _files(folder)
    StudyLease(files.store, "tiny").acquire()
    key = "studies/tiny/lease.json"
    elsewhere = {"holder": "other", "host": "edge-7", "machine": "another", "pid": 4711, "activity": "trial 3 of 16"}
    put_json(files.store, key, get_json(files.store, key) | elsewhere)
    busy = runs.run(folder, *command, *STORE)
    assert busy.code == 1
    assert "study 'tiny' is being run by process 4711 on 'edge-7'" in busy.err
    if command[0] == "gc":  # nobody has heard of it for a minute
        expired = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        put_json(files.store, key, get_json(files.store, key) | {"expires_at": expired})
        _run(runs, folder, *command, *STORE)
    files.store.delete(key)


def _run(runs: Runs, folder: Path, *arguments: str) -> Ended:
    ended = runs.run(folder, *arguments)
    assert ended.code == 0, ended.err
    return ended


def _event(url: str, name: str) -> dict[str, Any]:
    """Return the one event of that name; the server writes events down every few seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while not (events := _ask(url, "events/filter", {"filter": {"event": {"name": [name]}}})["events"]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (event,) = events
    assert isinstance(event, dict)
    return event


def _num_made(folder: Path) -> int:
    return len(_files(folder).store.list("cache/compressed/"))


def _ask(url: str, path: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{url}/{path}", json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def _files(folder: Path) -> StudyFiles:
    return StudyFiles(open_store(str(folder / "store")), "tiny")
