"""A fast profile, a small network, and locks of these tests' own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from secateur.config import DeviceProfile
from tests.benchmark.networks import conv_net


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep out of the way of measurements that run beside the tests."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def profile() -> DeviceProfile:
    return DeviceProfile(
        name="fast",
        num_threads=1,
        precision="f32",
        num_warmups=2,
        min_rounds=5,
        num_processes=1,
        max_duration_s=0.2,
        timeout_s=60.0,
    )


@pytest.fixture(scope="session")
def small_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return conv_net(tmp_path_factory.mktemp("networks") / "small.onnx")
