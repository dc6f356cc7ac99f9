"""A Prefect server for all tests, and runs of studies that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.processes import left_in

ROOT = Path(__file__).parents[2]


class Runs:
    """Runs studies in forks of one warm process: see `tests.flows.crash_driver`."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.folder = folder
        with (folder / "crash_driver.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.flows.crash_driver"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=folder,
                text=True,
            )

    def start(self, study: Path, log: Path, *, kill_at: int = 0, kill_after_s: float | None = None) -> None:
        """Begin a run of `study`, with a store beside it; `log` gets its events."""
        request = {
            "study": str(study),
            "store": str(study.parent / "store"),
            "log": str(log),
            "kill_at": kill_at,
            "kill_after_s": kill_after_s,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def wait(self) -> int:
        """Return how the run that was started ended: its exit code, or minus the signal."""
        return int(self._answer()["status"])

    def run(self, study: Path, log: Path, **how: Any) -> int:
        """Start a run, and wait for it."""
        self.start(study, log, **how)
        return self.wait()

    def left_behind(self) -> list[list[str]]:
        """Return the command lines of processes that runs left behind, after a few seconds' grace."""
        return left_in(self.folder, known={self._process.pid})

    def close(self) -> None:
        """End the warm process."""
        with self._process:  # closes its pipes, by which it knows, and waits for it
            pass

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith('{"status"'):
            assert line, "the crash driver ended; see crash_driver.log"
        answer: dict[str, Any] = json.loads(line)
        return answer


@pytest.fixture(scope="session")
def runs(prefect_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Provide a warm process that runs studies through a real Prefect server."""
    environment = {**os.environ, **prefect_environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    runs = Runs(environment, tmp_path_factory.mktemp("runs"))
    yield runs
    runs.close()
