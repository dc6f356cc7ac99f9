"""Train a folder of prepared candidates, on a host that has torch, torchvision, numpy and safetensors alone."""

from __future__ import annotations

import fcntl
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur import progress
from secateur.errors import JobError, MachineError, TrainingError
from secateur.models.network_file import rebuild
from secateur.training import processes
from secateur.training.batches import ImagesInMemory
from secateur.training.callbacks import NoCallbacks
from secateur.training.jobs import (
    Diverged,
    Job,
    Result,
    folder_of,
    path_of,
    read_bytes,
    read_jobs,
    read_outcome,
    read_tensors,
    sha256_of,
    write_json,
    writing,
)
from secateur.training.loop import train
from secateur.training.outcomes import Evaluation, TrainingResult
from secateur.training.settings import Device, TrainingSettings, fastest_precision


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How far a folder of jobs is."""

    num_jobs: int
    num_trained: int
    """Now, and earlier."""
    num_diverged: int
    num_elsewhere: int
    """Another process is at work on them."""

    @property
    def summary(self) -> str:
        """One line for people."""
        parts = [f"{self.num_trained} of {self.num_jobs} candidates are trained"]
        parts += [f"{self.num_diverged} diverged"] if self.num_diverged else []
        parts += [f"{self.num_elsewhere} are being trained by another process"] if self.num_elsewhere else []
        return ", ".join(parts)


def train_jobs(jobs_dir: Path, out_dir: Path) -> Tally:
    """Train what is not trained yet. Killed at any moment, the same call goes on; several may share the folders.

    Processes that torchrun started train each candidate together; the first of them writes.

    Args:
        jobs_dir: As `secateur bundle` wrote it.
        out_dir: What goes back home.

    Raises:
        JobError: A job is damaged, or a file of it; or OUT_DIR cannot be written. In the first case nothing is trained.
        ModelError: Its network is unknown here.
        MachineError: What some candidates could not be trained for; the others are. A candidate's own divergence is
            its outcome.
    """
    jobs = read_jobs(jobs_dir)
    num_elsewhere, problems = 0, []
    with progress.track(f"train {len(jobs)} candidates", total=len(jobs)) as bar:
        for job in jobs:
            with _claimed(folder_of(out_dir, job.identity)) as is_ours:
                num_elsewhere += not is_ours
                if is_ours and processes.first_says(read_outcome(out_dir, job.identity) is None):
                    try:
                        _train(job, jobs_dir, folder_of(out_dir, job.identity))
                    except MachineError as exc:
                        if processes.num_processes() > 1:  # the others wait for this one
                            raise
                        problems.append(f"{job.name}: {exc}")
            bar.advance()
    if problems:
        raise MachineError("\n".join(problems))
    outcomes = [read_outcome(out_dir, job.identity) for job in jobs]
    return Tally(
        num_jobs=len(jobs),
        num_trained=sum(isinstance(outcome, Result) for outcome in outcomes),
        num_diverged=sum(isinstance(outcome, Diverged) for outcome in outcomes),
        num_elsewhere=num_elsewhere,
    )


def _train(job: Job, jobs_dir: Path, out: Path) -> None:
    device: Device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = replace(job.settings, device=device, precision=job.precision or fastest_precision(device))
    module = _network(jobs_dir, job.network)
    masks = {} if job.masks is None else read_tensors(path_of(jobs_dir, job.masks), job.masks)
    images = _read_images(path_of(jobs_dir, job.images), job.images)
    checkpoint = out / "checkpoint.safetensors"
    try:
        trained = train(
            module,
            images["train"],
            images["validation"],
            settings,
            CarriedSchedule(module, job.learning_rates, masks, job.name),
            normalize=job.normalize,
            teacher=None if job.teacher is None else _network(jobs_dir, job.teacher),
            checkpoint=checkpoint,
        )
    except TrainingError as exc:
        progress.message(f"{job.name}: {exc}")
        if processes.is_first():
            with writing(out):
                write_json(out / "failure.json", Diverged(identity=job.identity, message=str(exc)))
    else:
        if processes.is_first():
            with writing(out):
                _keep(job, module, trained, settings, out)
            checkpoint.unlink(missing_ok=True)  # that of one that diverged stays: it has its last good epoch


def _network(jobs_dir: Path, digest: str) -> nn.Module:
    return rebuild(read_bytes(path_of(jobs_dir, digest), digest)).module


def _keep(job: Job, module: nn.Module, trained: TrainingResult, settings: TrainingSettings, out: Path) -> None:
    weights = out / "weights.safetensors"
    safetensors.torch.save_file({n: t.detach().cpu().contiguous() for n, t in module.state_dict().items()}, weights)
    write_json(
        out / "result.json",
        Result(
            identity=job.identity,
            weights=sha256_of(weights),
            epochs=trained.epochs,
            device=_device_name(settings.device),
            precision=settings.precision,
            torch=torch.__version__,
        ),
    )


class CarriedSchedule(NoCallbacks):
    """What a compression schedule still does once the network is thinned: learning rates, and masks that stay."""

    def __init__(
        self, module: nn.Module, learning_rates: Sequence[float], masks: Mapping[str, Tensor], name: str
    ) -> None:
        self._module = module
        self._learning_rates = learning_rates
        self._masks = masks
        self._name = name

    def on_training_begin(self, optimizer: Optimizer) -> None:
        """Set the learning rate of the first epoch."""
        self._set_rate(optimizer, 0)

    def on_minibatch_end(self, epoch: int, minibatch: int, num_minibatches: int) -> None:  # noqa: ARG002
        """Keep masked weights at zero."""
        for name, mask in self._masks.items():
            parameter = self._module.get_parameter(name)
            parameter.data.mul_(mask.to(parameter.device))

    def on_epoch_end(self, epoch: int, optimizer: Optimizer, validation: Evaluation) -> None:
        """Set the learning rate of the next epoch, and tell how far it is."""
        progress.message(f"{self._name}: epoch {epoch + 1}: top1 {validation.top1:.2f}")
        self._set_rate(optimizer, epoch + 1)

    def _set_rate(self, optimizer: Optimizer, epoch: int) -> None:
        if epoch < len(self._learning_rates):
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rates[epoch]


@lru_cache(maxsize=1)  # jobs of one study share them
def _read_images(path: Path, digest: str) -> dict[str, ImagesInMemory]:
    tensors = read_tensors(path, digest)
    expected = {f"{part}_{what}" for part in ("train", "validation") for what in ("NHWC", "N")}
    if tensors.keys() != expected:
        raise JobError(f"{path}: expected the tensors {sorted(expected)}, got {sorted(tensors)}.")
    return {
        part: ImagesInMemory(images_NHWC=tensors[f"{part}_NHWC"], labels_N=tensors[f"{part}_N"])
        for part in ("train", "validation")
    }


@contextmanager
def _claimed(folder: Path) -> Iterator[bool]:
    """Tell whether nobody else works on a job; the claim ends with the process, however that ends.

    Of processes that train together the first claims for all.
    """
    if not processes.is_first():
        yield processes.first_says(False)
        return
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        except BlockingIOError:
            is_ours = False
        yield processes.first_says(is_ours)
    finally:
        os.close(descriptor)


def _device_name(device: Device) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
