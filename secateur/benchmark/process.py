"""The runner's process: started, listened to, and ended with everything that it started."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from secateur.errors import MeasurementError

GRACE_S = 1.0
"""What the runner says and does is noticed within half of it."""
LAST_WORDS_BYTES = 2000


class RunnerFailedError(MeasurementError):
    """The runner's process failed.

    Attributes:
        network: Index of the network it was busy with, 0 for the reference or none yet; None for all of them.
    """

    def __init__(self, message: str, network: int | None) -> None:
        super().__init__(message)
        self.network = network


class RunnerProcess:
    """One request to the runner, served in a session of its own; leaving the context kills that session.

    Args:
        command: The interpreter and the program.
        environment: Variables of the process, besides those of this one.
        request: What to do; `timeout_s` in it says how long the runner may be silent.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], request: Mapping[str, Any]) -> None:
        self._timeout_s: float = request["timeout_s"]
        self._phase = "starting"
        self._network: int | None = 0  # until it names one, nothing is a model's fault
        self._last_words = b""
        # A runner that is silent for too long ends itself, and says where it was. It does so a little later than it
        # might, since its last event may have been heard late: what ends after `timeout_s` of silence here timed out.
        given = {**request, "timeout_s": self._timeout_s + GRACE_S / 2}
        # The runner ends when its stdin closes: so it dies with this process, even of kill -9.
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._stdin, self._stdout, self._stderr = self._process.stdin, self._process.stdout, self._process.stderr
        os.set_blocking(self._stderr.fileno(), False)
        with suppress(BrokenPipeError):  # then it died already, which `events` reports
            self._stdin.write(json.dumps(given).encode() + b"\n")
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
            RunnerFailedError: The runner was silent for too long, crashed, or said something else than an event.
        """
        for line in self._lines():
            try:
                event = json.loads(line)
                if event["event"] == "progress":
                    self._phase, self._network = event["phase"], event.get("network")
            except (ValueError, TypeError, LookupError):
                raise self._failed(f"said {line[:200]!r}, which is no event") from None
            yield event

    def _lines(self) -> Iterator[bytes]:
        buffer, heard_at = b"", time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            selector.register(self._stderr, selectors.EVENT_READ)
            while True:
                remaining_s = heard_at + self._timeout_s + GRACE_S - time.monotonic()
                ready = {key.fileobj for key, _ in selector.select(max(0.0, remaining_s))}
                if self._stderr in ready and not self._keep_last_words():
                    selector.unregister(self._stderr)
                if ready and self._stdout not in ready and remaining_s > 0:
                    continue  # what it writes to stderr is no sign of life
                chunk = os.read(self._stdout.fileno(), 65536) if self._stdout in ready else b""
                if not chunk:
                    raise self._ended(time.monotonic() - heard_at)
                heard_at = time.monotonic()
                *lines, buffer = (buffer + chunk).split(b"\n")
                yield from lines

    def _keep_last_words(self) -> bool:
        """Read what has come on stderr, and keep its end only; False when nothing more is there or can come."""
        try:
            chunk = os.read(self._stderr.fileno(), 65536)
        except BlockingIOError:
            return False
        self._last_words = (self._last_words + chunk)[-LAST_WORDS_BYTES:]
        return bool(chunk)

    def _ended(self, silent_s: float) -> RunnerFailedError:
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
        is_killed = status.si_status == signal.SIGKILL
        advice = " Somebody killed it: the kernel does where memory runs out (see `dmesg`)." if is_killed else ""
        return self._failed(f"was ended by {signal.Signals(status.si_status).name}", advice)

    def _failed(self, what: str, advice: str = "") -> RunnerFailedError:
        deadline = time.monotonic() + GRACE_S  # a flood would never end
        while time.monotonic() < deadline and self._keep_last_words():
            pass
        words = self._last_words.decode(errors="replace").splitlines()
        said = "\n  ".join(["Its last words:", *words]) if words else "It left no last words."
        return RunnerFailedError(f"The runner {what} while {self._phase}.{advice} {said}", self._network)
