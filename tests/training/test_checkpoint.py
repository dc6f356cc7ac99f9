"""A training goes on after a kill, and ends as if there had been none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim import Optimizer

from secateur import progress
from secateur.errors import InputError, MachineError, TrainingError
from secateur.training import Evaluation, NoCallbacks, TrainingResult, TrainingSettings, train
from secateur.training.checkpoint import read_checkpoint, write_checkpoint
from tests.training import killed
from tests.training.networks import Unchanged, small_network, some_images

ROOT = Path(__file__).parents[2]


def start(folder: Path, num_kills: int = 0) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.killed", str(folder), str(num_kills)]
    return subprocess.Popen(command, cwd=ROOT, env=environ)


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    process = start(checkpoint.parent)
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = read_checkpoint(checkpoint)
    assert state is not None
    assert len(state["epochs"]) < killed.SETTINGS.epochs, "it was killed in the middle"
    assert_same(killed.run(checkpoint.parent), killed.run(tmp_path / "undisturbed"))


@pytest.mark.slow
def test_a_training_killed_ten_times_at_random_ends_with_the_same_weights(tmp_path: Path) -> None:
    assert start(tmp_path, num_kills=10).wait() == 0
    assert_same(load_file(tmp_path / "final.safetensors"), killed.run(tmp_path / "undisturbed"))


class Stopping(NoCallbacks):
    """Stops a training after an epoch's callbacks, before its checkpoint."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, optimizer: Optimizer, validation: Evaluation) -> None:
        if epoch == self.epoch:
            raise KeyboardInterrupt


def run(checkpoint: Path | None, callbacks: NoCallbacks | None = None, **others: Any) -> TrainingResult:
    settings = TrainingSettings(**{"epochs": 3, "lr": 0.05, "batch_size": 16, **others})
    return train(
        small_network(),
        some_images(40),
        some_images(12, seed=1),
        settings,
        callbacks or NoCallbacks(),
        normalize=Unchanged(),
        checkpoint=checkpoint,
    )


def without_times(result: TrainingResult) -> list[tuple[Any, ...]]:
    return [(e.epoch, e.lr, e.training_loss, e.top1, e.loss) for e in result.epochs]


@pytest.mark.parametrize("others", [{}, {"lr_curve": "one_cycle"}, {"precision": "f16"}], ids=["", "curve", "f16"])
def test_an_interrupted_training_goes_on_from_its_last_epoch(tmp_path: Path, others: Any) -> None:
    path = tmp_path / "a folder" / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        run(path, Stopping(1), **others)
    resumed, undisturbed = run(path, **others), run(None, **others)
    assert without_times(resumed) == without_times(undisturbed)
    assert resumed.validation == undisturbed.validation
    again = run(path, Stopping(0), **others)  # all is done: no epoch is left that could be stopped
    assert again == resumed


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "c", epochs=1)
    with pytest.raises(InputError, match=r"c is of a training with another lr, seed. Remove it"):
        run(tmp_path / "c", epochs=1, lr=0.1, seed=4)


@pytest.mark.parametrize("content", [b"", b"garbage garbage", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(content)
    with pytest.raises(MachineError, match=r"c cannot be read: .* Remove it, and training begins anew"):
        run(path)


def test_a_diverged_training_leaves_its_last_good_epoch(tmp_path: Path) -> None:
    class Breaking(NoCallbacks):
        def before_backward(self, loss: Tensor) -> Tensor:
            return loss * torch.nan if self.epoch == 2 else loss

        def on_epoch_begin(self, epoch: int) -> None:
            self.epoch = epoch

    with pytest.raises(TrainingError, match="became nan in epoch 3 of 3"):
        run(tmp_path / "c", Breaking())
    state = read_checkpoint(tmp_path / "c")
    assert state is not None
    assert [epoch["epoch"] for epoch in state["epochs"]] == [0, 1]
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


@contextmanager
def messages() -> Iterator[list[str]]:
    """Note what the user is told."""
    texts: list[str] = []

    class Display(progress.Silent):
        def message(self, text: str) -> None:
            texts.append(text)

    with progress.show_on(Display()):
        yield texts


def test_a_full_disk_does_not_end_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c"
    run(path, epochs=1)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with messages() as texts:
        write_checkpoint(path, {"epochs": []})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    (text,) = texts
    assert "could not be written (No space left on device): training goes on" in text
    with messages() as texts:
        assert len(run(tmp_path / "other").epochs) == 3
    assert len(texts) == 3


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    tensor = torch.arange(6).view(2, 3).t()
    state = {"a": [1, 0.1, None, "x", float("inf")], "b": {"c": {"d": tensor}, "e": [tensor, torch.tensor(1.0)]}}
    write_checkpoint(tmp_path / "c", state)
    read = read_checkpoint(tmp_path / "c")
    assert read is not None
    assert read["a"] == state["a"]
    assert torch.equal(read["b"]["c"]["d"], tensor)
    assert torch.equal(read["b"]["e"][0], tensor)
    assert read["b"]["e"][1] == 1
    assert read_checkpoint(tmp_path / "absent") is None
