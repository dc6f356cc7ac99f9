"""OpenVINO 2021.4.2 under Python 3.8 and 3.9, as the Neural Compute Stick needs it; made by its own script."""

from __future__ import annotations

import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from secateur import resources
from secateur.benchmark import describe, measure, predict, unsupported_operations
from secateur.config import DeviceProfile, load_device
from secateur.errors import InputError, MeasurementError, StudyError
from secateur.export import export_onnx
from secateur.models import create_model
from secateur.results import LatencyReport
from tests.benchmark.networks import conv_net

pytestmark = pytest.mark.slow
SCRIPT = resources.find("infra/devices/make-ncs2-environment")


def find_python(version: str) -> str | None:
    """Return a Python that pyenv or uv has installed, or the PATH's (which pyenv may hide behind a shim)."""
    roots = (Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python")
    installed = [str(path) for root in roots for path in sorted(root.glob(f"*{version}*/bin/python{version}"))]
    return installed[0] if installed else shutil.which(f"python{version}")


@pytest.fixture(scope="session", params=["3.8", "3.9"])
def interpreter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    python = find_python(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} here; OpenVINO 2021.4.2 was built for 3.9 at most")
    folder = tmp_path_factory.mktemp("ncs2")
    made = subprocess.run([SCRIPT, python, folder], capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    return made.stdout.splitlines()[-1]


@pytest.fixture
def old(profile: DeviceProfile, interpreter: str) -> DeviceProfile:
    return profile.model_copy(update={"name": "old", "interpreter": interpreter})


@pytest.fixture(scope="session")
def resnet20(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resnet20") / "resnet20.onnx"
    path.write_bytes(export_onnx(create_model("resnet20_cifar", 10), 32, opset=load_device("ncs2").onnx_opset))
    return path


def test_the_same_request_is_answered_by_both_runtimes(
    profile: DeviceProfile, old: DeviceProfile, resnet20: Path, tmp_path: Path
) -> None:
    wide, broken = conv_net(tmp_path / "wide.onnx", width=64, batch="n"), tmp_path / "broken.onnx"
    broken.write_text("no model")
    small = conv_net(tmp_path / "small.onnx")
    for one in (profile, old):
        resnet, wider, problem = measure([resnet20, wide, broken], small, one)
        for report in (resnet, wider):
            assert isinstance(report, LatencyReport)
            assert 1.5 < report.latency_ratio.low <= report.latency_ratio.estimate <= report.latency_ratio.high
            assert report.num_rounds >= one.min_rounds
            assert report.latency_ms is not None
            assert report.throughput_fps is not None
            assert report.layers
            assert (report.device.precision, report.device.num_threads) == ("f32", 1)
        assert isinstance(problem, InputError)
    assert describe(old).runtime.startswith("2021.4.2")
    assert describe(old).python.startswith(("3.8.", "3.9."))


def test_both_runtimes_compute_the_same(profile: DeviceProfile, old: DeviceProfile, resnet20: Path) -> None:
    images_NCHW = np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32)
    np.testing.assert_allclose(
        predict(resnet20, images_NCHW, old), predict(resnet20, images_NCHW, profile), rtol=1e-3, atol=1e-3
    )


def test_a_wrong_setting_or_file_is_told(old: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="device profile 'old': device 'CPU' has no setting precision: 'f16'"):
        describe(old.model_copy(update={"precision": "f16"}))
    (problem,) = measure([conv_net(tmp_path / "open.onnx", height="h")], small_net, old)
    with pytest.raises(InputError, match=r"open\.onnx: input 'input' has the open shape \[1,3,\?,24\]: export it"):
        raise problem


def test_exports_for_the_stick_pass_its_gate_without_a_stick(interpreter: str, resnet20: Path, tmp_path: Path) -> None:
    stick = load_device("ncs2").model_copy(update={"interpreter": interpreter})
    if find_library("usb-1.0") is None:
        with pytest.raises(MeasurementError, match=r"device 'MYRIAD' cannot be asked: .*needs libusb-1\.0\."):
            unsupported_operations([resnet20], stick)
        pytest.skip("libusb-1.0 is not here, without which the stick's plugin answers nothing")
    resnet56 = tmp_path / "resnet56.onnx"
    resnet56.write_bytes(export_onnx(create_model("resnet56_cifar", 10), 32, opset=stick.onnx_opset))
    assert unsupported_operations([resnet20, resnet56], stick) == [[], []]
    (missing,) = unsupported_operations([conv_net(tmp_path / "sine.onnx", activation="Sin")], stick)
    assert any(operation.startswith("Sin ") for operation in missing)


def test_without_a_stick_the_message_says_what_to_check(interpreter: str, small_net: Path) -> None:
    stick = load_device("ncs2").model_copy(update={"interpreter": interpreter})
    expected = r"device profile 'ncs2': no Neural Compute Stick was found\. .*plugged in .*lsusb.*udev.*plugdev.*libusb"
    with pytest.raises(StudyError, match=expected):
        measure([small_net], small_net, stick)


@pytest.mark.device
def test_the_stick_itself(interpreter: str, resnet20: Path) -> None:
    stick = load_device("ncs2").model_copy(update={"interpreter": interpreter})
    (report,) = measure([resnet20], resnet20, stick)
    assert isinstance(report, LatencyReport)
    assert report.device.precision == "f16"


def test_the_script_refuses_another_python() -> None:
    made = subprocess.run([SCRIPT, sys.executable, "/nowhere"], capture_output=True, text=True, timeout=60)
    assert made.returncode == 1
    assert "OpenVINO 2021.4.2 was built for 3.9 at most" in made.stderr
