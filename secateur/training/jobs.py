"""Candidates as files: what an offline host is given to train, and what it gives back.

::

    JOBS_DIR/jobs/<identity>.json       one candidate: what to train, on what, how
    JOBS_DIR/objects/<sha256>           networks, masks, images; named by their content
    OUT_DIR/<identity>/result.json      written last: the job is done
    OUT_DIR/<identity>/weights.safetensors
    OUT_DIR/<identity>/failure.json     instead of both: training diverged

Nothing but JSON and safetensors; every file that is named is checked against its sha256.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from secateur.errors import JobError
from secateur.training.documents import from_json
from secateur.training.outcomes import TrainedEpoch
from secateur.training.settings import Precision, TrainingSettings

_DIGEST = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Per-channel mean and standard deviation of images scaled to [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One pruned candidate to train. Its files are named by their sha256."""

    identity: str
    """64 hex digits: equal candidates, of whatever study, have the same."""
    study: str
    trial: str
    """For people alone, as is the study's name."""
    network: str
    """As `secateur.models.network_file` writes it."""
    masks: str | None
    """Parameter -> uint8 tensor of its shape, 0 = kept at zero."""
    teacher: str | None
    """The network whose logits are imitated."""
    images: str
    """`train_NHWC`, `validation_NHWC` uint8; `train_N`, `validation_N` their classes, int64."""
    normalize: Scaling
    learning_rates: tuple[float, ...]
    """Of each epoch, where the compression schedule sets them; else empty."""
    settings: TrainingSettings
    """Device and precision of home; the host has its own."""
    precision: Precision | None
    """Where the study names one; None: the host's fastest."""
    version: Literal[1] = 1

    @property
    def name(self) -> str:
        """The job in messages."""
        return f"{self.study}, trial {self.trial}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a job."""

    identity: str
    weights: str
    """The sha256 of weights.safetensors."""
    epochs: tuple[TrainedEpoch, ...]
    device: str
    """The host's, in its maker's words."""
    precision: str
    torch: str
    """Its version."""
    version: Literal[1] = 1


@dataclass(frozen=True, kw_only=True)
class Diverged:
    """Why a job has no result, and never will."""

    identity: str
    message: str
    version: Literal[1] = 1


def write_job(folder: Path, job: Job) -> None:
    """Put a job into JOBS_DIR; its files are there already (`keep`)."""
    write_json(folder / "jobs" / f"{job.identity}.json", job)


def read_jobs(folder: Path) -> list[Job]:
    """Return all jobs of JOBS_DIR, in the order of their studies and trials, and check that their files are whole.

    Raises:
        JobError: With all problems.
    """
    paths = sorted((folder / "jobs").glob("*.json"))
    if not paths:
        raise JobError(
            f"{folder}: there are no jobs (jobs/*.json) in it. 'secateur bundle STUDY {folder}' writes some."
        )
    jobs: list[Job] = []
    problems: list[str] = []
    checked: set[str] = set()
    for path in paths:
        try:
            job = read_json(Job, path)
            _check_identity(job.identity, path.stem, path)
            for digest in (job.network, job.images, job.masks, job.teacher):
                if digest is not None and digest not in checked:
                    check_content(path_of(folder, digest), digest)
                    checked.add(digest)
        except JobError as exc:
            problems += exc.problems
        else:
            jobs.append(job)
    if problems:
        raise JobError(*problems)
    return sorted(jobs, key=lambda job: (job.study, job.trial.isdecimal(), job.trial.zfill(9)))


def read_outcome(folder: Path, identity: str) -> Result | Diverged | None:
    """Return what became of a job; None: it is not done.

    Raises:
        JobError: What is in OUT_DIR is damaged.
    """
    own = folder_of(folder, identity)
    kinds: tuple[tuple[str, type[Result | Diverged]], ...] = (("result.json", Result), ("failure.json", Diverged))
    for name, kind in kinds:
        if (own / name).exists():
            outcome = read_json(kind, own / name)
            _check_identity(outcome.identity, identity, own / name)
            return outcome
    return None


def folder_of(folder: Path, identity: str) -> Path:
    """Return where a job's result is put in OUT_DIR."""
    if not _DIGEST.fullmatch(identity):
        raise JobError(f"{folder}: a job's identity is 64 hex digits, got {identity!r:.80}.")
    return folder / identity


def _check_identity(found: str, expected: str, path: Path) -> None:
    if found != expected or not _DIGEST.fullmatch(found):
        raise JobError(f"{path}: 'identity' is {found!r:.80}, but the file is named for {expected!r:.80}.")


def keep(folder: Path, write: Callable[[Path], object]) -> str:
    """Let `write` make a file in JOBS_DIR, and name it by its content.

    Returns:
        Its sha256.
    """
    objects = folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)
    beside = objects / f".{uuid.uuid4().hex}"
    try:
        write(beside)
        digest = sha256_of(beside)
        beside.replace(objects / digest)
    finally:
        beside.unlink(missing_ok=True)
    return digest


def path_of(folder: Path, digest: str) -> Path:
    """Return where a file of JOBS_DIR lies.

    Raises:
        JobError: There is none of that name, or it is no name.
    """
    if not _DIGEST.fullmatch(digest):
        raise JobError(f"{folder}: files are named by 64 hex digits, got {digest!r:.80}.")
    path = folder / "objects" / digest
    if not path.is_file():
        raise JobError(f"{path}: there is no such file. Copy the whole folder that 'secateur bundle' wrote.")
    return path


def read_bytes(path: Path, digest: str) -> bytes:
    """Return a file's content.

    Raises:
        JobError: It is not what was written.
    """
    check_content(path, digest)
    return path.read_bytes()


def read_tensors(path: Path, digest: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises:
        JobError: It is not what was written.
    """
    check_content(path, digest)
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except SafetensorError as exc:
        raise JobError(f"{path}: is no safetensors file: {exc}.") from exc
    return tensors


def check_content(path: Path, digest: str) -> None:
    """Check a file against its sha256.

    Raises:
        JobError: It is absent, or is not what was written.
    """
    if not path.is_file():
        raise JobError(f"{path}: there is no such file. Copy the whole folder again.")
    if (found := sha256_of(path)) != digest:
        raise JobError(f"{path}: is damaged: its sha256 is {found}, expected {digest}. Copy it again.")


def sha256_of(path: Path) -> str:
    """Return a file's sha256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Say it in words if a file of a folder cannot be written: the disk is full, say.

    Raises:
        JobError: In the place of whatever was raised.
    """
    try:
        yield
    except OSError as exc:
        raise JobError(f"{folder}: cannot be written: {exc.strerror}. Make room, or choose another folder.") from exc
    except SafetensorError as exc:  # what safetensors makes of an OSError
        raise JobError(f"{folder}: cannot be written: {exc}. Make room, or choose another folder.") from exc


def write_json(path: Path, document: Any) -> None:
    """Write a dataclass as JSON, at once or not at all: a kill, or a loss of power, leaves the file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(document), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(kind: type[T], path: Path) -> T:
    """Read what `write_json` wrote.

    Raises:
        JobError: It is something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as exc:
        raise JobError(f"{path}: is not JSON: {exc}. Copy it again.") from None
    return from_json(kind, value, str(path))
