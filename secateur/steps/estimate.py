"""Estimate what a study will take, from one small piece of each step, before a night is spent on it."""

from __future__ import annotations

import copy
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import nn

from secateur import benchmark
from secateur.admissibility import check_against_model, check_study
from secateur.candidate import Workshop
from secateur.config import Study, Training
from secateur.datasets import Images
from secateur.export import export_onnx
from secateur.models import create_model, load_weights
from secateur.parameters import most_epochs
from secateur.results import LatencyReport
from secateur.store import Store
from secateur.training import NoCallbacks, evaluate, recalibrate_bn, train
from secateur.turns import working

T = TypeVar("T")

_PROPOSE_S = 0.7
"""One candidate from Ax, two objectives, 64 trials, on one thread."""
_NUM_IMAGES = 256


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a whole study costs, as if every candidate were as large as the unpruned network."""

    num_trials: int
    baseline_s: float
    trial_s: float
    """Of one trial, when nothing runs beside it."""
    bytes_per_trial: int
    free_bytes: int | None
    """In the store's folder; None for a service."""
    device: str

    @property
    def total_s(self) -> float:
        """Baselines and all trials, one after the other."""
        return self.baseline_s + self.num_trials * self.trial_s

    @property
    def total_bytes(self) -> int:
        """Networks of all trials and both baselines."""
        return (self.num_trials + 2) * self.bytes_per_trial


def estimate(study: Study, store: Store) -> Estimate:
    """Check a study as running it would, and time one piece of each step. Nothing is kept.

    Raises:
        InputError: What is wrong with the study, its data, its weights or its device.
        MeasurementError: The device cannot be measured.
    """
    study = check_study(study)
    check_against_model(study)
    workshop = Workshop(study=study, store=store)
    splits = workshop.splits
    module = create_model(study.model, splits.num_classes)
    if study.weights is not None:
        load_weights(module, study.weights)
    check_against_model(study, splits.num_classes)
    some, opset = _some(splits.validation), study.device.onnx_opset
    with working():
        evaluate_s = _seconds(lambda: evaluate(module, some, splits.normalize, device=workshop.device))
        evaluate_s *= len(splits.validation) / len(some)
        export_s, content = _timed(lambda: export_onnx(copy.deepcopy(module).cpu(), splits.input_size, opset=opset))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(content)
        measure_s, (report,) = _timed(lambda: benchmark.measure([path], path, study.device))
    if not isinstance(report, LatencyReport):
        raise report
    recalibrate_s = _recalibration_seconds(workshop, module)
    recalibrate_s += evaluate_s if recalibrate_s else 0.0
    teacher = module if study.training.distillation else None
    longest = study.training.model_copy(update={"epochs": most_epochs(study)})
    retrain_s = _training_seconds(workshop, module, longest, teacher, evaluate_s)
    trial_s = _PROPOSE_S + evaluate_s + recalibrate_s + retrain_s + export_s + measure_s
    train_s = (
        0.0 if study.weights is not None else _training_seconds(workshop, module, study.baseline, None, evaluate_s)
    )
    return Estimate(
        num_trials=study.budget.trials,
        baseline_s=train_s + evaluate_s + export_s + measure_s + trial_s,
        trial_s=trial_s,
        bytes_per_trial=2 * len(content),
        free_bytes=None if store.url.startswith("s3://") else shutil.disk_usage(_existing(Path(store.url))).free,
        device=report.device.full_name,
    )


@working()
def _training_seconds(
    workshop: Workshop, module: nn.Module, training: Training, teacher: nn.Module | None, evaluate_s: float
) -> float:
    """Return what all epochs take, with an evaluation after each."""
    if training.epochs == 0:
        return 0.0
    splits, images = workshop.splits, _some(workshop.splits.train)
    settings = replace(workshop.settings(training), epochs=1, lr=1e-4)

    def one_epoch() -> None:
        train(
            copy.deepcopy(module),
            images,
            _some(images, 1),
            settings,
            NoCallbacks(),
            normalize=splits.normalize,
            teacher=copy.deepcopy(teacher),
        )

    one_epoch()  # the first pays for warming up
    return training.epochs * (_seconds(one_epoch) * len(splits.train) / len(images) + evaluate_s)


@working()
def _recalibration_seconds(workshop: Workshop, module: nn.Module) -> float:
    splits, images = workshop.splits, _some(workshop.splits.train)
    if (num_images := min(workshop.study.training.recalibration_images, len(splits.train))) == 0:
        return 0.0
    recalibrated = copy.deepcopy(module)
    seconds = _seconds(lambda: recalibrate_bn(recalibrated, images, splits.normalize, device=workshop.device))
    return seconds * num_images / len(images)


def _some(images: Images, count: int = _NUM_IMAGES) -> Images:
    return images.select(np.arange(len(images)) < count)


def _seconds(call: Callable[[], object]) -> float:
    return _timed(call)[0]


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(parent for parent in (path, *path.parents) if parent.exists())
