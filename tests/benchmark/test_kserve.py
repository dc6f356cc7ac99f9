"""A third party's server of the protocol, KServe's own, in an environment of its own, on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from secateur.benchmark import describe, measure, predict
from secateur.config import DeviceProfile
from secateur.errors import InputError
from secateur.results import LatencyReport
from tests.benchmark.networks import conv_net

pytestmark = pytest.mark.slow
SERVER = Path(__file__).with_name("kserve_server.py")
REQUIREMENTS = ("kserve==0.21.0", "openvino>=2025.0", "numpy<3")
START_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("served")
    return conv_net(folder / "small.onnx"), conv_net(folder / "wide.onnx", width=96, size=48)


@pytest.fixture(scope="module")
def url(networks: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("kserve")
    python = folder / "bin/python"
    for step in (["venv", "--python", sys.executable, folder], ["pip", "install", "--python", python, *REQUIREMENTS]):
        made = subprocess.run([sys.executable, "-m", "uv", *step], capture_output=True, text=True, timeout=900)
        assert made.returncode == 0, made.stderr
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen([python, SERVER, str(port), *networks], stdout=file, stderr=file)
    try:
        wait_until_live(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def wait_until_live(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/v2/health/live", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"KServe's server did not start:\n{log.read_text()}")


@pytest.fixture(params=["binary", "json"])
def kserve(url: str, request: pytest.FixtureRequest) -> DeviceProfile:
    return DeviceProfile(
        name="kserve", kind="http", url=url, tensors=request.param, num_processes=1, min_rounds=60, max_duration_s=3.0
    )


def test_it_is_measured_as_any_device(kserve: DeviceProfile, networks: tuple[Path, Path]) -> None:
    small, wide = networks
    [report] = measure([wide], small, kserve)
    assert isinstance(report, LatencyReport), report
    assert report.latency_ratio.low > 1
    assert report.network is not None
    assert report.network.source == "empty request"  # KServe's own server keeps no statistics
    assert 0 < report.network.latency_ms < report.total_latency_ms.p50
    assert report.device.full_name == "kserve"
    assert describe(kserve) == report.device


def test_it_computes_what_the_cpu_does(
    kserve: DeviceProfile, profile: DeviceProfile, networks: tuple[Path, Path]
) -> None:
    images_NCHW = np.random.default_rng(0).random((3, 3, 24, 24), dtype=np.float32)
    there, here = predict(networks[0], images_NCHW, kserve), predict(networks[0], images_NCHW, profile)
    np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4)


def test_a_stream_of_frames(kserve: DeviceProfile, networks: tuple[Path, Path]) -> None:
    camera = kserve.model_copy(update={"mode": "stream", "frames_per_s": 20.0})
    [report] = measure([networks[0]], networks[0], camera)
    assert isinstance(report, LatencyReport), report
    assert report.stream is not None
    assert report.stream.num_frames == kserve.min_rounds
    assert report.stream.latency_ms.p50 > 0


def test_an_absent_model_is_told(kserve: DeviceProfile, networks: tuple[Path, Path], tmp_path: Path) -> None:
    (error,) = measure([conv_net(tmp_path / "absent.onnx")], networks[0], kserve)
    with pytest.raises(InputError, match=r"has no model 'absent'"):
        raise error
