from __future__ import annotations

from pathlib import Path

import pytest

from secateur import resources
from secateur.config import load_device
from secateur.errors import StudyError


@pytest.mark.parametrize("path", sorted(resources.find("infra/devices").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_profiles_are_right(path: Path) -> None:
    assert load_device(path.stem) == load_device(str(path))


def test_a_profiles_name_is_its_files_unless_it_says_another(tmp_path: Path) -> None:
    (tmp_path / "stick.yaml").write_text("device: NPU\n")
    assert load_device(str(tmp_path / "stick.yaml")).name == "stick"
    (tmp_path / "stick.yaml").write_text("name: other\n")
    assert load_device(str(tmp_path / "stick.yaml")).name == "other"


def test_an_unknown_profile_is_refused_with_the_nearest_and_all_names() -> None:
    with pytest.raises(
        StudyError, match=r"no profile 'cpu-f32'. Did you mean 'cpu-f32-1thread'.*Name one of cpu, cpu-bf16"
    ):
        load_device("cpu-f32")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("num_thread: 2\n", r"d.yaml:1: unknown key 'num_thread'. Did you mean 'num_threads'\?"),
        ("num_threads: 0\n", "d.yaml:1: 'num_threads': Input should be greater than or equal to 1, got 0"),
        ("device: CPU\nprecision: f8\n", "d.yaml:2: 'precision': Input should be 'f32', 'bf16' or 'f16', got 'f8'"),
        ("timeout_s: .inf\n", "d.yaml:1: 'timeout_s': Input should be a finite number, got inf"),
        ("max_duration_s: -1\n", "d.yaml:1: 'max_duration_s': Input should be greater than 0, got -1"),
        ("- CPU\n", "d.yaml: expected a mapping of keys to values, got list"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(StudyError, match=problem):
        load_device(str(tmp_path / "d.yaml"))
