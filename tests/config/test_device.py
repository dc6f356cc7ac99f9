from __future__ import annotations

from pathlib import Path

import pytest

from secateur import resources
from secateur.config import DeviceProfile, load_device
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


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kind: http\n", "d.yaml:1: kind: http needs the 'url' of the service"),
        (
            "kind: http\nurl: example.com\n",
            "d.yaml:2: 'url': expected http://host:port or https://host:port, got 'exam",
        ),
        ("kind: http\nurl: http://h:1\nprecision: f32\n", "d.yaml:3: 'precision' means nothing to kind: http. Remove"),
        ("device: CPU\nurl: http://h:1\n", "d.yaml:2: 'url' means nothing to kind: openvino. Remove it"),
        ("mode: stream\n", "d.yaml:1: mode: stream and 'frames_per_s' belong together"),
        ("frames_per_s: 30\n", "d.yaml:1: mode: stream and 'frames_per_s' belong together"),
        ("mode: stream\nframes_per_s: 0\n", "d.yaml:2: 'frames_per_s': Input should be greater than 0, got 0"),
    ],
)
def test_a_service_and_a_stream_need_what_is_theirs(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "d.yaml").write_text(text)
    with pytest.raises(StudyError, match=problem):
        load_device(str(tmp_path / "d.yaml"))


@pytest.mark.parametrize("url", ["https://me:s3cret@host", "ftp://me:s3cret@host", "me:s3cret@host"])
def test_a_password_in_an_address_is_refused_and_not_told(tmp_path: Path, url: str) -> None:
    (tmp_path / "d.yaml").write_text(f"kind: http\nurl: {url}\n")
    with pytest.raises(StudyError, match="'url' holds credentials: put them into an environment variable") as error:
        load_device(str(tmp_path / "d.yaml"))
    assert "s3cret" not in str(error.value)


def test_a_service_and_a_stream_are_read(tmp_path: Path) -> None:
    text = "kind: http\nurl: https://host/triton/\nmodel: resnet\nmode: stream\nframes_per_s: 30\n"
    (tmp_path / "cloud.yaml").write_text(text)
    profile = load_device(str(tmp_path / "cloud.yaml"))
    assert profile.target == profile.url == "https://host/triton"
    assert (profile.name, profile.model, profile.frames_per_s, profile.queue_length) == ("cloud", "resnet", 30.0, 1)
    assert DeviceProfile.model_validate(profile.model_dump()) == profile
