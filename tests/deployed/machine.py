"""`secateur up` as a user runs it, and what it started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from secateur.cli.supervise import MARK, State
from secateur.store import StudyFiles
from secateur.store.local_s3 import free_port
from secateur.store.s3 import S3Store

ROOT = Path(__file__).parents[2]
PATIENCE_S = 300.0


class Machine:
    """One folder to start things from, and one to work in."""

    def __init__(self, folder: Path) -> None:
        self.up_folder = folder / "up"
        self.working_dir = folder / "work"
        self.working_dir.mkdir()
        self.port = free_port()

    def secateur(self, *arguments: str, is_sourced: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command of secateur's in the working folder, in a shell that sourced the env file or did not."""
        exports = self.exports() if is_sourced else {}
        return self._run("secateur.cli.main", *arguments, environment=self._environment() | exports)

    def up(self) -> subprocess.CompletedProcess[str]:
        """Bring it up."""
        return self.secateur("up", "--port", str(self.port), "--folder", str(self.up_folder))

    def down(self) -> subprocess.CompletedProcess[str]:
        """End it."""
        return self.secateur("down", "--folder", str(self.up_folder))

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Prefect's, in a shell that sourced the env file."""
        home = {"PREFECT_HOME": str(self.working_dir / ".prefect")}
        return self._run("prefect", *arguments, environment=self._environment() | self.exports() | home)

    def run_sweep(self, study: Path, **parameters: Any) -> subprocess.CompletedProcess[str]:
        """Run ``sweep/quickstart`` to its end."""
        return self.prefect("deployment", "run", "sweep/quickstart", *_options(study, parameters), "--watch")

    def begin_sweep(self, study: Path, **parameters: Any) -> None:
        """Schedule ``sweep/quickstart``."""
        begun = self.prefect("deployment", "run", "sweep/quickstart", *_options(study, parameters))
        assert begun.returncode == 0, begun.stdout + begun.stderr

    def exports(self) -> dict[str, str]:
        """Return what the env file exports."""
        lines = (self.up_folder / "env").read_text().splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))

    def api(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> Any:
        """Call Prefect's API; an error status is an `urllib.error.HTTPError`."""
        data = None if method == "GET" else json.dumps(body or {}).encode()
        headers = {"Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.port}/api{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method)) as response:
            return json.loads(response.read() or "null")

    def flow_runs(self, flow: str) -> list[dict[str, Any]]:
        """Return the runs of a flow, the earliest first."""
        order = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC"}
        runs: list[dict[str, Any]] = self.api("/flow_runs/filter", order)
        return runs

    def study_files(self, study: str) -> StudyFiles:
        """Open a study in the object store."""
        return StudyFiles(S3Store(self.exports()["SECATEUR_STORE"], self.exports()), study)

    def state(self) -> State:
        """Return what was started."""
        state = State.load(self.up_folder)
        assert state is not None
        return state

    def pid(self, name: str) -> int:
        """Return the pid of a part."""
        return next(started.pid for started in self.state().started if started.name == name)

    def processes(self) -> list[psutil.Process]:
        """Return all living processes that this folder's `up` started, and their descendants."""
        return [process for process in psutil.process_iter() if self.state().mark in _mark(process)]

    def kill_worker(self, pool: str) -> None:
        """Kill a worker and what it runs, as a power cut would."""
        worker = psutil.Process(self.pid(f"{pool} worker"))
        for process in [worker, *worker.children(recursive=True)]:
            process.kill()

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "SECATEUR_", "AWS_"))}
        return inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "1"}

    def _run(self, module: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            env=environment,
            cwd=self.working_dir,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.5)


def _options(study: Path, parameters: dict[str, Any]) -> list[str]:
    return [
        part for k, v in {"study": str(study), **parameters}.items() for part in ("--param", f"{k}={json.dumps(v)}")
    ]


def _mark(process: psutil.Process) -> str:
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE
        return str(process.environ().get(MARK, "")) if alive else ""
    except (psutil.Error, OSError):
        return ""
