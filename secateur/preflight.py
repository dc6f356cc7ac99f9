"""Is a study right? All that can be told before any work is done, so that bad input costs none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from secateur import benchmark
from secateur.admissibility import check_against_model, check_study
from secateur.config import Study, locate_study
from secateur.config.located import Located, Location
from secateur.datasets import check_dataset, known_input_size
from secateur.errors import ExportError, InputError, ScheduleError, StudyError
from secateur.export import export_onnx
from secateur.models import create_model, load_weights, num_classes_of
from secateur.references import resolve
from secateur.resources import here_or_shipped
from secateur.steps.gate import OperationGate
from secateur.steps.source import find_study, is_file_name
from secateur.store import StudyFiles, open_store

_NUM_CLASSES = 10
"""Whether there is such a model does not depend on it."""


def find_checked(study: str, store: str, overrides: Sequence[str] = ()) -> tuple[StudyFiles, Study]:
    """Read a study as `find_study` does, and check it and its store.

    Raises:
        InputError: With every problem, each at its file and line.
        StoreError: The store cannot be reached, or refuses the credentials.
    """
    if is_file_name(study):
        read, document = locate_study(here_or_shipped(Path(study)), overrides)
        files = StudyFiles(open_store(store), read.name)
        files.exists()  # an unreachable or forbidden store is found out here
    else:
        files, read = find_study(study, store, overrides)
        document = Located(value={}, source=f"study {study!r} in {store}")
    check_before_work(read, document)
    return files, read


def check_before_work(study: Study, document: Located, *, is_device_here: bool = True) -> None:
    """Check a study against everything it names: schedule, model, dataset, weights, evaluation function, device.

    Nothing is downloaded, decoded or trained. That the weights fit the dataset's number of classes is found out later.

    Args:
        study: What was read.
        document: Where it was read, for the places of problems.
        is_device_here: Candidates are measured on this host.

    Raises:
        InputError: With every problem, each at its file and line.
    """
    schedule: dict[Location, Callable[[], object]] = {
        ("search", "parameters"): lambda: check_study(study),
        ("model",): lambda: check_against_model(study),
        ("device", "operations"): lambda: _check_operations(study),
    }
    _run(schedule | _ingredients(study, is_device_here=is_device_here), document)


def check_ingredients(study: Study, document: Located, *, is_device_here: bool) -> None:
    """Check all that a study names but its schedule; see `check_before_work`.

    Raises:
        InputError: With every problem, each at its place.
    """
    model: dict[Location, Callable[[], object]] = {("model",): lambda: create_model(study.model, _NUM_CLASSES)}
    _run(model | _ingredients(study, is_device_here=is_device_here), document)


def _ingredients(study: Study, *, is_device_here: bool) -> dict[Location, Callable[[], object]]:
    checks: dict[Location, Callable[[], object]] = {("dataset",): lambda: check_dataset(study.dataset)}
    if (weights := study.weights) is not None:
        checks["weights",] = lambda: _check_weights(study, weights)
    if (evaluation := study.evaluation) is not None:
        checks["evaluation",] = lambda: resolve(evaluation, StudyError)
    if is_device_here:
        checks["device",] = lambda: benchmark.describe(study.device)
    return checks


def _run(checks: Mapping[Location, Callable[[], object]], document: Located) -> None:
    problems: dict[str, str] = {}  # each once: weights cannot be checked either, where the model is unknown
    for location, check in checks.items():
        try:
            check()
        except ScheduleError as exc:  # its problems name their places
            problems |= {problem: problem for problem in exc.problems}
        except InputError as exc:
            for problem in exc.problems:
                problems.setdefault(problem, f"{document.at(location)}: {problem}")
    if problems:
        raise StudyError(*problems.values())


def _check_operations(study: Study) -> None:
    """Check that the device has the unpruned network's operations, as far as that can be told on this host."""
    if (input_size := known_input_size(study.dataset)) is None:
        return
    with torch.random.fork_rng():
        module = create_model(study.model, _NUM_CLASSES)
    try:
        OperationGate(study.device)(export_onnx(module, input_size, opset=study.device.onnx_opset, num_checks=0))
    except ExportError as exc:
        raise StudyError(str(exc)) from exc


def _check_weights(study: Study, weights: Path) -> None:
    """Check that weights fit the model, whatever number of classes they are for."""
    with torch.random.fork_rng():
        load_weights(create_model(study.model, num_classes_of(study.model, weights)), weights)
