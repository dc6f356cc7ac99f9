"""Compress a trial: prune, thin, retrain, export. And test a finalist, which needs the same images."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from secateur.benchmark import energy_ledger
from secateur.candidate import Workshop
from secateur.config import Study
from secateur.errors import ExportError, StudyError, ThinningError, TrainingError
from secateur.prospects import Prospects
from secateur.results import UNPRUNED, Compressed, Failure, TrialRecord
from secateur.retraining import GoesOn, always
from secateur.steps.admission import shift_of
from secateur.steps.record import now, spent, versions
from secateur.store import StudyFiles
from secateur.turns import working


@working()
def compress(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TrialRecord:
    """Prune, retrain and export a proposed trial (or baseline), and write its record.

    A network that cannot be thinned, trained or exported makes a failed trial. What is wrong with the study, the
    store or the machine is raised, and leaves the trial as it was.

    Args:
        workshop: Of the study.
        files: Of the study.
        label: Which trial.
        num_threads: CPU threads that torch may use in this thread.

    Raises:
        InputError: The study is wrong: its dataset, its weights.
        StoreError: The store could not read or write.
    """
    record = files.read_record(label)
    if record.state != "proposed":
        return record
    own = workshop.for_trial(record.parameters, record.seed)

    def make() -> dict[str, Any]:
        if label == UNPRUNED:
            compressed, is_reused = own.make_unpruned()
        else:
            goes_on = _goes_on(own.study, files, record)
            compressed, is_reused = own.make_candidate(unpruned_checkpoint(files), record.parameters, goes_on)
        return _known(files, record, compressed) if is_reused else {"state": "compressed", "compressed": compressed}

    return _made(files, record, make, num_threads)


@working()
def export_untrained(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TrialRecord:
    """Prune and export a proposed trial, so that it can be measured before it is trained, and write its record.

    An equal candidate that was trained before is taken as it is: the trial is compressed then. Arguments and errors as
    `compress`.
    """
    record = files.read_record(label)
    if record.state != "proposed" or record.compressed is not None:
        return record
    own = workshop.for_trial(record.parameters, record.seed)

    def make() -> dict[str, Any]:
        pruned = own.prune(unpruned_checkpoint(files), record.parameters)
        if (trained := own.earlier(pruned.identity)) is not None:
            return _known(files, record, trained)
        return {"compressed": own.untrained(pruned)}

    return _made(files, record, make, num_threads)


def _made(files: StudyFiles, record: TrialRecord, make: Callable[[], dict[str, Any]], num_threads: int) -> TrialRecord:
    """Write down what `make` makes of a trial: fields of its record."""
    torch.set_num_threads(num_threads)
    started = time.perf_counter()
    try:
        with energy_ledger().account() as energy:
            changes = make()
    except (ThinningError, TrainingError, ExportError) as exc:
        failure = Failure(phase="compress", type=type(exc).__name__, message=str(exc))
        changes = {"state": "failed", "compressed": None, "failure": failure, "finished_at": now()}
    else:
        changes |= {
            "seconds": spent(record, "compress", time.perf_counter() - started),
            "energy_j": {**record.energy_j, **energy.under("compress")},
            "versions": {**record.versions, **versions()},
        }
    record = record.model_copy(update=changes)
    files.write_record(record)
    return record


def _goes_on(study: Study, files: StudyFiles, record: TrialRecord) -> GoesOn:
    """Return what ends a candidate's training, as far as the other trials tell by now.

    Baselines, replicates, audits and contenders are there to be known: nothing ends theirs.
    """
    is_audit = record.gate is not None and record.gate.is_audit
    if not study.stop_early or not record.is_trial or record.replicate_of is not None or is_audit:
        return always

    @cache
    def prospects() -> Prospects:
        return Prospects.of(files.results(), study.training.epochs, shift_of(files.read_premise()))

    return lambda epochs: not epochs or prospects().goes_on(record, epochs[-1].top1, len(epochs))


def _known(files: StudyFiles, record: TrialRecord, compressed: Compressed) -> dict[str, Any]:
    """Return what becomes of the record of a trial whose network was made before."""
    same_as = record.same_as or _earlier_trial(files, record, compressed)
    return {"state": "compressed", "compressed": compressed, "is_reused": True, "same_as": same_as}


def _earlier_trial(files: StudyFiles, record: TrialRecord, compressed: Compressed) -> str | None:
    """Return the first trial of which this network was made; None if it was another study, or no trial."""
    if not record.is_trial:
        return None
    trials = (trial for trial in files.trials() if trial.index < record.index)
    return next((trial.label for trial in trials if trial.compressed == compressed), None)


def unpruned_checkpoint(files: StudyFiles) -> str:
    """Return the artifact key of what all candidates of a study are pruned from.

    Raises:
        StudyError: There is none.
    """
    unpruned = files.read_record(UNPRUNED)
    if unpruned.compressed is None:
        why = "" if unpruned.failure is None else f" It failed: {unpruned.failure.message}"
        raise StudyError(f"study {files.name!r}: there is no unpruned network to begin with.{why}")
    return unpruned.compressed.checkpoint


@working()
def test(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TrialRecord:
    """Evaluate a finalist (or baseline) on test data, once, and note the access in its record."""
    torch.set_num_threads(num_threads)
    record = files.read_record(label)
    if record.test is None and record.compressed is not None:
        scores = workshop.test(record.compressed.checkpoint, now())
        record = record.model_copy(update={"test": scores})
        files.write_record(record)
    return record
