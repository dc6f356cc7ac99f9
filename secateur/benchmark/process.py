"""The runner's process: started, listened to, and ended with everything that it started."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from secateur.errors import MeasurementError

GRACE_S = 1.0
"""The runner ends itself when it is silent for too long, and says where it was; it gets so long for that."""
LAST_WORDS_BYTES = 2000


class RunnerProcess:
    """One request to the runner, served in a session of its own; leaving the context kills that session.

    Args:
        runner: The program.
        request: What to do; `timeout_s` in it says how long the runner may be silent.
    """

    def __init__(self, runner: Path, request: Mapping[str, Any]) -> None:
        self._timeout_s: float = request["timeout_s"]
        self._phase = "starting"
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        # The runner ends when its stdin closes: so it dies with this process, even of kill -9.
        self._process = subprocess.Popen(
            [sys.executable, str(runner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        with suppress(BrokenPipeError):  # then it died already, which `events` reports
            self._stdin.write(json.dumps(dict(request)).encode() + b"\n")
            self._stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Killed before it is waited for: until then its number cannot belong to anybody else.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with suppress(BrokenPipeError):
            self._stdin.close()
        self._stdout.close()
        self._stderr.close()

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what the runner says, as it says it; never ends by itself: the last event is the caller's to know.

        Raises:
            MeasurementError: The runner was silent for too long, crashed, or said something else than an event.
        """
        for line in self._lines():
            try:
                event = json.loads(line)
                self._phase = event.get("phase", self._phase)
            except (ValueError, AttributeError):
                raise self._failed(f"said {line[:200]!r}, which is no event") from None
            yield event

    def _lines(self) -> Iterator[bytes]:
        buffer, heard_at = b"", time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            while True:
                silent_s = time.monotonic() - heard_at
                ready = selector.select(max(0.0, self._timeout_s + GRACE_S - silent_s))
                chunk = os.read(self._stdout.fileno(), 65536) if ready else b""
                if not chunk:
                    raise self._ended(time.monotonic() - heard_at)
                heard_at = time.monotonic()
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from lines

    def _ended(self, silent_s: float) -> MeasurementError:
        if silent_s >= self._timeout_s:
            advice = f" If the device is only slow, raise timeout_s ({self._timeout_s:g}) in its profile."
            return self._failed(f"said nothing for {self._timeout_s:g} s and was killed", advice)
        deadline = time.monotonic() + GRACE_S
        options = os.WEXITED | os.WNOWAIT | os.WNOHANG
        while (status := os.waitid(os.P_PID, self._process.pid, options)) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if status is None:
            return self._failed("closed its output, and was killed,")
        if status.si_code == os.CLD_EXITED:
            return self._failed(f"ended with exit code {status.si_status}")
        return self._failed(f"was ended by {signal.Signals(status.si_status).name}")

    def _failed(self, what: str, advice: str = "") -> MeasurementError:
        # pread: the runner writes where this descriptor's offset is, so that must not be moved.
        size = os.fstat(self._stderr.fileno()).st_size
        tail = os.pread(self._stderr.fileno(), LAST_WORDS_BYTES, max(0, size - LAST_WORDS_BYTES))
        words = tail.decode(errors="replace").splitlines()
        said = "\n  ".join(["Its last words:", *words]) if words else "It left no last words."
        return MeasurementError(f"The runner {what} while {self._phase}.{advice} {said}")
