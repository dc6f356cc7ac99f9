"""Debian's Chromium without a window, driven by the DevTools protocol over a pipe."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser")
_COMMANDS, _ANSWERS = 3, 4
"""File descriptors on which Chromium reads and writes."""

_LOOK_S, _MAX_LOOKS = 0.1, 600


class Tab:
    """One page.

    Attributes:
        problems: Errors and warnings that the page, or the browser about it, has written to the console.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self.problems: list[str] = []
        self._commands, self._answers = commands, answers
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def open(self, page: Path, *, width: int, height: int = 900, is_dark: bool = False) -> None:
        """Load a file in a window of this size, and wait until every figure is drawn."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.evaluate("delete document.documentElement?.dataset.drawn")
        self.call("Page.navigate", url=page.as_uri())
        for _ in range(_MAX_LOOKS):
            if self.evaluate("document.documentElement?.dataset.drawn") == "all":
                return
            time.sleep(_LOOK_S)
        raise AssertionError(f"not every figure was drawn: {self.problems}")

    def evaluate(self, expression: str) -> Any:
        """Return what a JavaScript expression, or the promise it is, comes to."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def point_at(self, x: float, y: float) -> None:
        """Move the mouse there, in pixels of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, *, is_whole: bool = False) -> bytes:
        """Return a PNG of the window, or of the whole page."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=is_whole)["data"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the answer to one command."""
        number = next(self._numbers)
        session = {"sessionId": self._session} if self._session else {}
        request = {"id": number, "method": method, "params": params, **session}
        os.write(self._commands, json.dumps(request).encode() + b"\0")
        while (message := self._next_message()).get("id") != number:
            self._note(message)
        assert "error" not in message, f"{method}: {message['error']}"
        result: dict[str, Any] = message["result"]
        return result

    def _next_message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = os.read(self._answers, 1 << 16)
            assert data, "Chromium is gone"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] in {"error", "warning", "assert"}:
            self.problems.append(json.dumps(params["args"]))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] in {"error", "warning"}:
            self.problems.append(json.dumps(params["entry"]))


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Tab]:
    """Start a browser whose profile lies in this folder; it ends with the context."""
    assert PROGRAM is not None
    commands_out, commands = os.pipe()
    answers, answers_in = os.pipe()

    # Out of the way of the two numbers that Chromium knows; then neither can overwrite the other.
    far = [fcntl.fcntl(end, fcntl.F_DUPFD, 2 * _ANSWERS) for end in (commands_out, answers_in)]

    def connect() -> None:
        os.dup2(far[0], _COMMANDS)
        os.dup2(far[1], _ANSWERS)

    process = subprocess.Popen(
        [
            PROGRAM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ],
        preexec_fn=connect,
        close_fds=False,
        stderr=subprocess.DEVNULL,
    )
    for end in (commands_out, answers_in, *far):
        os.close(end)
    try:
        tab = Tab(commands, answers)
        yield tab
    finally:
        process.terminate()
        process.wait()
        os.close(commands)
        os.close(answers)
