"""A folder of jobs is trained where there is little more than torch."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from secateur.errors import JobError, MachineError
from secateur.models import create_model
from secateur.models.network_file import save_network, unpruned
from secateur.progress import Bar, Display, show_on
from secateur.training import NoCallbacks, TrainingSettings, fastest_precision, offline, train
from secateur.training.__main__ import main
from secateur.training.jobs import Diverged, Job, Result, Scaling, keep, read_outcome, read_tensors, write_job, writing
from secateur.training.offline import train_jobs
from tests.flows.tiny import images
from tests.runs import ROOT

ARCH = "resnet20_cifar"
IDENTITY = "0123456789abcdef" * 4
RATES = (0.05, 0.01)
SETTINGS = TrainingSettings(epochs=2, lr=0.05, batch_size=16, max_shift=1)

ABSENT = (
    "pydantic",
    "typer",
    "rich",
    "prefect",
    "yaml",
    "minio",
    "scipy",
    "sklearn",
    "onnx",
    "torch_pruning",
    "ax",
    "timm",
)
"""What the project uses elsewhere; torch and torchvision bring what they need themselves."""

ALONE = """
import runpy, sys

class Without:
    def __init__(self, finder):
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, name, path=None, target=None):
        is_absent = name.partition(".")[0] in {absent!r}
        return None if is_absent else self._finder.find_spec(name, path, target)

sys.meta_path[:] = map(Without, sys.meta_path)
sys.argv[0] = "secateur.training"
runpy.run_module("secateur.training", run_name="__main__")
"""


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """A folder with one job."""
    add_job(tmp_path / "jobs_dir")
    return tmp_path / "jobs_dir"


def network() -> nn.Module:
    torch.manual_seed(0)
    return create_model(ARCH, 3)


def add_job(folder: Path, **changes: Any) -> Job:
    splits = images()
    tensors = {
        "train_NHWC": splits.train.images_NHWC,
        "train_N": splits.train.labels_N,
        "validation_NHWC": splits.validation.images_NHWC,
        "validation_N": splits.validation.labels_N,
    }
    content = save_network(unpruned(network(), ARCH, 3))
    job = Job(
        identity=IDENTITY,
        study="tiny",
        trial="0",
        network=keep(folder, lambda path: path.write_bytes(content)),
        masks=None,
        teacher=None,
        images=keep(folder, lambda path: safetensors.torch.save_file(tensors, path)),
        normalize=Scaling(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        learning_rates=RATES,
        settings=SETTINGS,
        precision=None,
    )
    job = replace(job, **changes)
    write_job(folder, job)
    return job


def alone(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m secateur.training` where nothing but torch, torchvision, numpy and safetensors is installed."""
    code = ALONE.format(absent=ABSENT)
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
def test_a_bare_host_trains_what_it_is_given_once(jobs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = alone(jobs, out)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 of 1 candidates are trained\n"
    assert "tiny, trial 0: epoch 2: top1 " in done.stderr
    outcome = read_outcome(out, IDENTITY)
    assert isinstance(outcome, Result)
    assert [epoch.lr for epoch in outcome.epochs] == list(RATES)
    before = (out / IDENTITY / "result.json").stat()
    assert train_jobs(jobs, out).num_trained == 1
    assert (out / IDENTITY / "result.json").stat().st_mtime_ns == before.st_mtime_ns


class Falling(NoCallbacks):
    def on_epoch_end(self, epoch: int, optimizer: Any, validation: Any) -> None:
        optimizer.param_groups[0]["lr"] = RATES[-1]


def test_it_is_trained_as_it_would_be_at_home(jobs: Path, tmp_path: Path) -> None:
    train_jobs(jobs, tmp_path / "out")
    outcome = read_outcome(tmp_path / "out", IDENTITY)
    assert isinstance(outcome, Result)
    module, splits = network().eval(), images()
    settings = replace(SETTINGS, precision=fastest_precision("cpu"))
    train(module, splits.train, splits.validation, settings, Falling(), normalize=splits.normalize)
    weights = read_tensors(tmp_path / "out" / IDENTITY / "weights.safetensors", outcome.weights)
    assert all(torch.equal(weights[name], tensor) for name, tensor in module.state_dict().items())


def test_masks_stay(tmp_path: Path) -> None:
    mask = torch.ones(16, 3, 3, 3, dtype=torch.uint8)
    mask[:8] = 0
    folder = tmp_path / "jobs_dir"
    masks = keep(folder, lambda path: safetensors.torch.save_file({"conv1.weight": mask}, path))
    add_job(folder, masks=masks)
    train_jobs(folder, tmp_path / "out")
    weight = safetensors.torch.load_file(tmp_path / "out" / IDENTITY / "weights.safetensors")["conv1.weight"]
    assert torch.equal(weight != 0, mask.bool())


def test_what_diverges_is_said_and_not_tried_again(tmp_path: Path) -> None:
    folder, out = tmp_path / "jobs_dir", tmp_path / "out"
    add_job(folder, learning_rates=(1e30, 1e30))
    tally = train_jobs(folder, out)
    assert tally.summary == "0 of 1 candidates are trained, 1 diverged"
    outcome = read_outcome(out, IDENTITY)
    assert isinstance(outcome, Diverged)
    assert "epoch 1 of 2" in outcome.message
    assert train_jobs(folder, out).num_diverged == 1


def test_a_job_that_another_process_trains_is_left_to_it(jobs: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / IDENTITY).mkdir(parents=True)
    with (tmp_path / "out" / IDENTITY / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tally = train_jobs(jobs, tmp_path / "out")
    assert tally.summary == "0 of 1 candidates are trained, 1 are being trained by another process"


class Told(Display):
    """Remembers what users are told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    @contextmanager
    def bar(self, description: str, total: float | None) -> Iterator[Bar]:
        yield self

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        pass

    def message(self, text: str) -> None:
        self.messages.append(text)


def spoil(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"network": "../../secret"}, "files are named by 64 hex digits, got '../../secret'"),
        ({"images": "f" * 64}, "there is no such file. Copy the whole folder"),
        ({"identity": "../.." + "0" * 59}, "the file is named for"),
        ({"settings": {"epochs": 1}}, "settings: 'lr' is missing"),
        ({"version": 2}, r"version: expected Literal\[1\], got 2"),
    ],
    ids=["path", "absent", "identity", "settings", "version"],
)
def test_a_damaged_job_is_refused(jobs: Path, tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    spoil(jobs / "jobs" / f"{IDENTITY}.json", **changes)
    with pytest.raises(JobError, match=problem):
        train_jobs(jobs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_the_machine_could_not_do_is_tried_again(tmp_path: Path) -> None:
    folder, out, other = tmp_path / "jobs_dir", tmp_path / "out", "f" * 64
    add_job(folder)
    add_job(folder, identity=other, trial="1")
    damaged = out / IDENTITY / "checkpoint.safetensors"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"half of it")
    with pytest.raises(MachineError, match=r"trial 0: The checkpoint .* cannot be read"):
        train_jobs(folder, out)
    assert isinstance(read_outcome(out, other), Result)  # the others are trained
    assert read_outcome(out, IDENTITY) is None
    damaged.unlink()
    assert train_jobs(folder, out).num_trained == 2


def test_a_folder_that_cannot_be_written_is_said_in_words(jobs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(JobError, match=r"cannot be written: .*\. Make room, or choose another folder"):
        train_jobs(jobs, tmp_path / "out")


def test_safetensors_errors_are_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be written"), writing(tmp_path):
        safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "absent" / "a.safetensors")


def test_a_truncated_network_is_refused(jobs: Path, tmp_path: Path) -> None:
    job = json.loads((jobs / "jobs" / f"{IDENTITY}.json").read_text())
    path = jobs / "objects" / job["network"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JobError, match="is damaged: its sha256 is"):
        train_jobs(jobs, tmp_path / "out")
    assert not (tmp_path / "out").exists()  # before anything is trained


def test_a_folder_without_jobs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there are no jobs"):
        train_jobs(tmp_path, tmp_path / "out")


def test_the_command_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["secateur.training", str(tmp_path), str(tmp_path / "out")])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith(f"secateur: {tmp_path}: there are no jobs (jobs/*.json) in it.")


class Killed(NoCallbacks):
    """Stands for the power that fails when the second epoch begins."""

    def __init__(self, *_: object) -> None:
        pass

    def on_epoch_begin(self, epoch: int) -> None:
        if epoch == 1:
            raise KeyboardInterrupt


def test_an_interrupted_job_goes_on_from_its_last_epoch(
    jobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_jobs(jobs, tmp_path / "undisturbed")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(offline, "CarriedSchedule", Killed)
        train_jobs(jobs, tmp_path / "out")
    assert (tmp_path / "out" / IDENTITY / "checkpoint.safetensors").exists()
    told = Told()
    with show_on(told):
        train_jobs(jobs, tmp_path / "out")
    assert [text.partition(": top1")[0] for text in told.messages] == ["tiny, trial 0: epoch 2"]
    assert not (tmp_path / "out" / IDENTITY / "checkpoint.safetensors").exists()
