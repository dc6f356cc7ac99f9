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
_NAMED_S = 10.0
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


class NamedServer:
    """The server that `PREFECT_API_URL` names; it is not ours to start or stop."""

    def __init__(self, api_url: str) -> None:
        self.url = api_url.rstrip("/").removesuffix("/api")
        self._health_url = f"{api_url.rstrip('/')}/health"

    def wait(self) -> None:
        """Make sure that it answers.

        Raises:
            SecateurError: It does not.
        """
        try:
            with urllib.request.urlopen(self._health_url, timeout=_NAMED_S):  # noqa: S310 (the user's own choice)
                return
        except (urllib.error.URLError, OSError, ValueError) as exc:
            reason = exc.reason if isinstance(exc, urllib.error.URLError) else exc
            raise SecateurError(
                f"PREFECT_API_URL: no Prefect server answers at {self._health_url} ({reason})."
                " Start it, or unset PREFECT_API_URL: then this command starts one of its own."
            ) from None


@contextmanager
def prefect_server(home: Path) -> Iterator[EmbeddedServer | NamedServer]:
    """Provide the server that flows talk to: the one `PREFECT_API_URL` names, or an embedded one.

    Args:
        home: Where an embedded server keeps its database.
    """
    # Errors are told once, by whoever calls; everything is in the UI.
    changes = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL", "DO_NOT_TRACK": "1"}
    if api_url := os.environ.get("PREFECT_API_URL"):
        with _environment(changes):
            yield NamedServer(api_url)
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
