"""One whole study, as a user runs it: a real process, a real Prefect server, a real device."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secateur.results import StudyResults
from secateur.store import StudyFiles, open_store
from tests.flows.processes import at_work_in, left_in
from tests.flows.tiny import write_study
from tests.runs import ROOT

SECATEUR = (sys.executable, "-m", "secateur.cli.main")
PATIENCE_S = 240.0
"""For a machine that has much else to do."""


@pytest.fixture
def environment() -> dict[str, str]:
    """Without a server that somebody named: the command starts its own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SECATEUR_"))}
    return {**own, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_sweep_survives_kill_9_and_leaves_nothing_behind(tmp_path: Path, environment: dict[str, str]) -> None:
    write_study(tmp_path, {"budget.trials": 3})
    process = _start("sweep", "study.yaml", cwd=tmp_path, environment=environment)
    _wait(lambda: _trials(tmp_path), "no trial was proposed")
    assert any("flows.server_process" in " ".join(p.cmdline()) for p in at_work_in(tmp_path))
    process.kill()  # alone: its server and its runner have to notice
    process.communicate()
    assert left_in(tmp_path) == []
    before = {name: text for name, text in _records(tmp_path).items() if '"finished_at":null' not in _compact(text)}

    done = _run("sweep", "study.yaml", "--json", cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert left_in(tmp_path) == []
    document = json.loads(done.stdout)  # one document, and nothing else
    assert document["study"] == "tiny"
    assert {row["trial"] for row in document["trials"]} == {"0", "1", "2"}
    _check_stderr(done.stderr)
    after = _records(tmp_path)
    assert {name for name in after if "trials" in name} == {f"trials/{i}.json" for i in range(3)}
    for name, text in before.items():
        assert _without_test(after[name]) == _without_test(text)
    assert all(record.state == "completed" for record in _results(tmp_path).trials)
    _check_report(tmp_path / document["report"])
    _check_prefect(tmp_path / "runs/.prefect/prefect.db")


def _start(*arguments: str, cwd: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*SECATEUR, *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(*arguments: str, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SECATEUR, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )


def _wait(condition: Callable[[], Any], otherwise: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def _check_stderr(stderr: str) -> None:
    for noise in ("Traceback", "Error logging", "Warning", "prefect"):
        assert noise not in stderr, stderr


def _results(folder: Path, store: str = "runs/.store") -> StudyResults:
    return StudyFiles(open_store(str(folder / store)), "tiny").results()


def _trials(folder: Path) -> list[Path]:
    return list((folder / "runs/.store/studies/tiny/trials").glob("*.json"))


def _records(folder: Path) -> dict[str, str]:
    root = folder / "runs/.store/studies/tiny"
    return {
        f"{kind}/{path.name}": path.read_text() for kind in ("trials", "baselines") for path in (root / kind).iterdir()
    }


def _compact(text: str) -> str:
    return json.dumps(json.loads(text), separators=(",", ":"))


def _without_test(text: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(text).items() if name != "test"}


def _check_report(html: Path) -> None:
    text = html.read_text()
    assert "plotly" in text.lower()
    for label in ("0", "1", "2", "unpruned"):
        assert label in text
    assert html.with_name("report.md").read_text().startswith("# ")


def _check_prefect(database: Path) -> None:
    """What somebody sees in the UI: artifacts, and runs with speaking names."""
    with sqlite3.connect(database) as connection:
        artifacts = dict(connection.execute("select key, type from artifact"))
        num_done = dict(connection.execute("select key, data from artifact where type = 'progress' order by created"))
        flows = {name for (name,) in connection.execute("select name from flow_run")}
        tasks = {name for (name,) in connection.execute("select name from task_run")}
    connection.close()
    assert artifacts == {
        "tiny-progress": "progress",
        "tiny-leaderboard": "table",
        "tiny-summary": "markdown",
        "tiny-pareto": "image",
    }
    assert float(num_done["tiny-progress"]) == 100.0
    assert {"sweep study.yaml", "compress ['2'] of tiny", "measure ['2'] of tiny"} <= flows
    assert {"compress 2", "measure ['2']", "open tiny", "publish tiny", "report tiny"} <= tasks
