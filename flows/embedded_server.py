"""Run flows in this process, with a Prefect server of our own beside it (or the one the user names)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.errors import SecateurError, StoreFullError
from secateur.store.os_errors import os_errors

_START_S = 90.0
_NEEDED_BYTES = 10_000_000
"""What Prefect's database takes in a first sweep, and some more."""


class EmbeddedServer:
    """A Prefect server on SQLite that ends with this process, however that ends."""

    def __init__(self, home: Path) -> None:
        """Start it; `wait` tells when it answers, so that there is time to import flows meanwhile.

        Args:
            home: Where Prefect keeps its database.

        Raises:
            StoreError: `home` cannot be written.
        """
        self._home, self._log = home, home / "server.log"
        with os_errors(home, "written"):
            home.mkdir(parents=True, exist_ok=True)
            log = self._log.open("wb")
        environment = {**os.environ, **_settings(home)}
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.server_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us alone: the server has to hear of the end first
            )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().decode().strip()
        if not port:
            raise self._failed()
        self.url = f"http://127.0.0.1:{port}"

    def wait(self) -> None:
        """Return when the server answers.

        Raises:
            SecateurError: It does not.
        """
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"{self.url}/api/health", timeout=2):  # noqa: S310 (our own, on loopback)
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise self._failed()

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _failed(self) -> SecateurError:
        self._process.kill()
        if shutil.disk_usage(self._home).free < _NEEDED_BYTES:
            return StoreFullError(f"{self._home}: there is no space left for Prefect's database. Free some there.")
        tail = self._log.read_text(errors="replace").strip().splitlines()[-5:]
        return SecateurError("\n  ".join([f"Prefect's server did not start; its log is {self._log}:", *tail]))


def _settings(home: Path) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(home.absolute()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home.absolute()}/prefect.db",
        "DO_NOT_TRACK": "1",
    }


class _NamedServer:
    """The server that `PREFECT_API_URL` names; it is not ours to start or stop."""

    def wait(self) -> None:
        pass


@contextmanager
def prefect_server(home: Path) -> Iterator[EmbeddedServer | _NamedServer]:
    """Provide the server that flows talk to: the one `PREFECT_API_URL` names, or an embedded one.

    Args:
        home: Where an embedded server keeps its database.
    """
    # Errors are told once, by whoever calls; everything is in the UI.
    changes = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "DO_NOT_TRACK": "1"}
    if os.environ.get("PREFECT_API_URL"):
        with _environment(changes):
            yield _NamedServer()
        return
    server = EmbeddedServer(home)
    changes |= _settings(home) | {"PREFECT_API_URL": f"{server.url}/api", "PREFECT_UI_URL": server.url}
    try:
        with _environment(changes):
            yield server
    finally:
        server.stop()


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Set variables, and set them back: the next study in this process gets a server of its own."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
