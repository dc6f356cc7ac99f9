"""Candidates leave as files, are trained by a host that has no study, and come back as if they had never left."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from secateur.candidate import Workshop
from secateur.config import Study
from secateur.datasets import StreamedImages
from secateur.errors import JobError, ScheduleError, StudyBusyError, StudyError
from secateur.results import OFF_THE_SHELF, UNPRUNED, Compressed
from secateur.steps import bundle as module
from secateur.steps.bundle import bundle, take_back
from secateur.steps.collect import collect
from secateur.steps.compress import compress, unpruned_checkpoint
from secateur.store import StudyFiles, StudyLease
from secateur.training.jobs import read_jobs
from secateur.training.offline import train_jobs
from tests.fakes import MemoryStore
from tests.flows.tiny import SCHEDULE, STUDY, TinyNetwork, images

TRAINING = {"epochs": 2, "lr": 0.05, "batch_size": 16}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path)


def make_study(folder: Path, **changes: Any) -> Study:
    torch.manual_seed(3)
    torch.save(TinyNetwork(3).state_dict(), folder / "tiny.pt")
    schedule = copy.deepcopy(SCHEDULE)
    fields = {"schedule": schedule, "device": "cpu", "training": TRAINING, "weights": folder / "tiny.pt", **changes}
    return Study.model_validate({**STUDY, **fields})


@pytest.fixture
def files() -> StudyFiles:
    return StudyFiles(MemoryStore(), "tiny")


def fates(moved: Any) -> dict[str, str]:
    return {one.label: one.fate for one in moved}


def without_times(compressed: Compressed | None) -> dict[str, Any]:
    assert compressed is not None
    document = compressed.model_dump(exclude={"seconds"})
    times = {"duration_s": 0.0, "images_per_s": None}
    return document | {"epochs": [{**epoch, **times} for epoch in document["epochs"]]}


def test_what_comes_back_is_what_would_have_been_made_here(study: Study, files: StudyFiles, tmp_path: Path) -> None:
    jobs, results = tmp_path / "jobs_dir", tmp_path / "results"
    assert fates(bundle(files, study, jobs, 2)) == {OFF_THE_SHELF: "prepared", "0": "prepared", "1": "prepared"}
    assert train_jobs(jobs, results).num_trained == 3
    assert fates(take_back(files, study, results)) == {
        OFF_THE_SHELF: "taken back",
        "0": "taken back",
        "1": "taken back",
    }
    assert not collect(files.store, is_real=False).freed  # it has names

    workshop, at_home = Workshop(study=study, store=files.store), Workshop(study=study, store=MemoryStore())
    unpruned, _ = at_home.make_unpruned()
    for label in (OFF_THE_SHELF, "0", "1"):
        record = compress(workshop, files, label, 1)
        assert record.is_reused, label
        made, _ = at_home.make_candidate(unpruned.checkpoint, record.parameters)
        assert without_times(record.compressed) == without_times(made)


def test_the_studys_own_point_is_the_network_off_the_shelf(study: Study, files: StudyFiles, tmp_path: Path) -> None:
    search = study.search.model_copy(update={"method": "bayes"})
    jobs, study = tmp_path / "jobs_dir", study.model_copy(update={"search": search})
    assert fates(bundle(files, study, jobs, 2)) == {OFF_THE_SHELF: "prepared", "0": "known", "1": "prepared"}
    assert files.read_record("0").method == "own"
    assert [job.trial for job in read_jobs(jobs)] == [OFF_THE_SHELF, "1"]
    workshop = Workshop(study=study, store=files.store)
    assert not compress(workshop, files, OFF_THE_SHELF, 1).is_reused
    assert compress(workshop, files, "0", 1).is_reused


@pytest.mark.slow
def test_bundling_again_adds_what_is_new(study: Study, files: StudyFiles, tmp_path: Path) -> None:
    jobs = tmp_path / "jobs_dir"
    bundle(files, study, jobs, 1)
    kept = {path: path.stat().st_ino for path in (jobs / "jobs").iterdir()}
    assert list(fates(bundle(files, study, jobs, 3))) == [OFF_THE_SHELF, "0", "1", "2"]
    assert kept.keys() < set((jobs / "jobs").iterdir())
    assert [job.trial for job in read_jobs(jobs)] == [OFF_THE_SHELF, "0", "1", "2"]
    assert list(fates(bundle(files, study, tmp_path / "other", 9))) == [OFF_THE_SHELF, "0", "1", "2"]  # the budget


@pytest.mark.slow
def test_half_a_bundle_may_come_back(study: Study, files: StudyFiles, tmp_path: Path) -> None:
    jobs, results = tmp_path / "jobs_dir", tmp_path / "results"
    bundle(files, study, jobs, 1)
    off_the_shelf, _ = read_jobs(jobs)
    (jobs / "jobs" / f"{off_the_shelf.identity}.json").unlink()
    train_jobs(jobs, results)
    assert fates(take_back(files, study, results)) == {OFF_THE_SHELF: "missing", "0": "taken back"}
    assert fates(bundle(files, study, tmp_path / "again", 1)) == {OFF_THE_SHELF: "prepared", "1": "prepared"}


def test_test_images_stay_at_home(study: Study, files: StudyFiles, tmp_path: Path) -> None:
    bundle(files, study, tmp_path, 0)
    (job,) = read_jobs(tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "objects" / job.images)
    assert {name: len(tensor) for name, tensor in tensors.items()} == {
        "train_NHWC": 48,
        "train_N": 48,
        "validation_NHWC": 24,
        "validation_N": 24,
    }


def test_images_that_are_streamed_do_not_fit_into_a_bundle(
    tmp_path: Path,
) -> None:
    streamed = StreamedImages(files=(), labels_N=torch.zeros(0), input_size=None, shape_HW=(8, 8))
    with pytest.raises(JobError, match=r"dataset\.max_memory_bytes\. Raise it"):
        module._keep_images(tmp_path, replace(images(), train=streamed))


def test_what_diverged_is_a_failed_trial(study: Study, files: StudyFiles, tmp_path: Path) -> None:
    jobs, results = tmp_path / "jobs_dir", tmp_path / "results"
    bundle(files, study, jobs, 1)
    for job in read_jobs(jobs):
        spoil(jobs / "jobs" / f"{job.identity}.json", learning_rates=[1e30, 1e30])
    train_jobs(jobs, results)
    assert fates(take_back(files, study, results)) == {OFF_THE_SHELF: "diverged", "0": "diverged"}
    record = files.read_record("0")
    assert record.state == "failed"
    assert record.failure is not None
    assert (record.failure.phase, record.failure.type) == ("compress", "TrainingError")


def spoil(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_damaged_result_is_refused(study: Study, files: StudyFiles, tmp_path: Path) -> None:
    jobs, results = tmp_path / "jobs_dir", tmp_path / "results"
    bundle(files, study, jobs, 0)
    train_jobs(jobs, results)
    (job,) = read_jobs(jobs)
    weights = results / job.identity / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(JobError, match=r"weights.safetensors: is damaged"):
        take_back(files, study, results)
    weights.write_bytes(whole)
    assert fates(take_back(files, study, results)) == {OFF_THE_SHELF: "taken back"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {
                "policies.0": {
                    "pruner": {"instance_name": "pruner_0"},
                    "starting_epoch": 0,
                    "ending_epoch": 9,
                    "frequency": 1,
                }
            },
            "pruner 'pruner_0' .L1RankedStructureParameterPruner. acts while a network is retrained",
        ),
        (
            {"lr_schedulers": {"halving": {"class": "ReduceLROnPlateau"}}},
            "lr_scheduler 'halving' .ReduceLROnPlateau. acts while a network is retrained",
        ),
    ],
    ids=["pruner", "plateau"],
)
def test_a_schedule_that_cannot_go_along_is_refused(
    files: StudyFiles, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    schedule = copy.deepcopy(SCHEDULE)
    if policy := changes.pop("policies.0", None):
        schedule["policies"][0] = policy
    with pytest.raises(ScheduleError, match=f"{problem}.*Take the policy out"):
        bundle(files, make_study(tmp_path, schedule=schedule | changes), tmp_path / "jobs_dir", 1)


def test_without_retraining_there_is_nothing_to_send(files: StudyFiles, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"training\.epochs is 0"):
        bundle(files, make_study(tmp_path, training={"epochs": 0}), tmp_path / "jobs_dir", 1)


def test_a_study_that_is_swept_is_left_alone(study: Study, files: StudyFiles, tmp_path: Path) -> None:
    sweep = StudyLease(files.store, files.name)
    sweep.acquire()
    with pytest.raises(StudyBusyError):
        bundle(files, study, tmp_path / "jobs_dir", 1)
    sweep.release()
    bundle(files, study, tmp_path / "jobs_dir", 0)
    assert unpruned_checkpoint(files) == files.read_record(UNPRUNED).compressed.checkpoint  # type: ignore[union-attr]
