"""Device profiles: those that are shipped, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateur import resources
from secateur.config import load_device
from secateur.errors import StudyError


@pytest.mark.parametrize("name", ["cpu", "cpu-f32-1thread", "cpu-bf16-1thread", "gpu", "npu", "ncs2"])
def test_shipped_profiles_load_by_name(name: str) -> None:
    assert load_device(name).name == name
    assert load_device(str(resources.find("infra/devices") / f"{name}.yaml")) == load_device(name)


def test_the_sticks_profile_names_what_its_runtime_needs() -> None:
    stick = load_device("ncs2")
    assert stick.device == "MYRIAD"
    assert stick.onnx_opset == 13
    assert stick.interpreter is not None
    assert stick.interpreter.endswith("ncs2/bin/python")  # where make-ncs2-environment puts it


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("device: CPU\nnum_thread: 1\n", r"p\.yaml:2: unknown key 'num_thread'\. Did you mean 'num_threads'\?"),
        ("num_threads: 0\n", r"p\.yaml:1: 'num_threads': .*greater than or equal to 1, got 0"),
        ("\n\nprecision: int8\n", r"p\.yaml:3: 'precision': .*'f32', 'bf16' or 'f16', got 'int8'"),
        ("min_rounds: 2\ntimeout_s: -1\n", r"p\.yaml:1: 'min_rounds'(.|\n)*p\.yaml:2: 'timeout_s'"),
        ("onnx_opset: 9\n", r"p\.yaml:1: 'onnx_opset': .*greater than or equal to 11, got 9"),
        ("device: [\n", r"p\.yaml:2: this is not YAML"),
    ],
    ids=["key", "threads", "precision", "two", "opset", "syntax"],
)
def test_a_wrong_profile_names_file_and_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=expected):
        load_device(str(path))


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(
        StudyError, match=r"there is no profile 'cpuu'\. Did you mean 'cpu'\? Name one of cpu, cpu-bf16"
    ):
        load_device("cpuu")
