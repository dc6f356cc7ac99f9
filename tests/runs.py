"""Commands in processes that can be killed, and that start in no time."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """Its exit code, or minus the signal that killed it."""
    out: str
    err: str
    events: list[str]
    trained: int
    measured: int


class Runs:
    """Runs commands in forks of one warm process, one at a time: see `tests.flows.crash_driver`."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._folder = folder
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

    def start(self, folder: Path, *arguments: str, kill_at: int = 0, full_at: str = "") -> int:
        """Begin `secateur ARGUMENTS` in `folder`; return its process id.

        Args:
            folder: Its working directory.
            arguments: As typed.
            kill_at: Number of the event at which it kills itself, from 1; 0: it does not.
            full_at: Beginning of the store's keys for which there is no space left; empty: there is.
        """
        self._log = self._folder / "log"
        self._log.unlink(missing_ok=True)
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "log": str(self._log),
            "kill_at": kill_at,
            "full_at": full_at,
        }
        return int(self._ask(json.dumps(request))["pid"])

    def wait(self) -> Ended:
        """Return how the command that was started ended."""
        code = int(self._ask("")["status"])
        out, err = (self._log.with_suffix(suffix).read_text() for suffix in (".out", ".err"))
        lines = self._log.read_text().splitlines()
        events = [line.removeprefix("event ") for line in lines if line.startswith("event ")]
        words = " ".join(lines).split()
        return Ended(code, out, err, events, words.count("trained"), words.count("measured"))

    def run(self, folder: Path, *arguments: str, **how: Any) -> Ended:
        """Start a command, and wait for it."""
        self.start(folder, *arguments, **how)
        return self.wait()

    def close(self) -> None:
        """End the warm process."""
        with self._process:  # closes its pipes, by which it knows, and waits for it
            pass

    def _ask(self, request: str) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, (self._folder / "crash_driver.log").read_text()
        return json.loads(line)
