"""Compress a trial: prune, thin, retrain, export. And test a finalist, which needs the same images."""

from __future__ import annotations

import time

import torch

from secateur.benchmark import energy_ledger
from secateur.candidate import Workshop
from secateur.errors import ExportError, StudyError, ThinningError, TrainingError
from secateur.results import UNPRUNED, Compressed, Failure, TrialRecord
from secateur.steps.record import now, versions
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
    torch.set_num_threads(num_threads)
    started = time.perf_counter()
    workshop = workshop.for_trial(record.parameters, record.seed)
    try:
        with energy_ledger().account() as energy:
            if label == UNPRUNED:
                compressed, is_reused = workshop.make_unpruned()
            else:
                compressed, is_reused = workshop.make_candidate(unpruned_checkpoint(files), record.parameters)
    except (ThinningError, TrainingError, ExportError) as exc:
        failure = Failure(phase="compress", type=type(exc).__name__, message=str(exc))
        record = record.model_copy(update={"state": "failed", "failure": failure, "finished_at": now()})
    else:
        record = record.model_copy(
            update={
                "state": "compressed",
                "compressed": compressed,
                "is_reused": is_reused,
                "same_as": record.same_as or (_earlier_trial(files, record, compressed) if is_reused else None),
                "seconds": {**record.seconds, "compress": time.perf_counter() - started},
                "energy_j": {**record.energy_j, **energy.under("compress")},
                "versions": {**record.versions, **versions()},
            }
        )
    files.write_record(record)
    return record


def _earlier_trial(files: StudyFiles, record: TrialRecord, compressed: Compressed) -> str | None:
    """Return the first trial of which this network was made; None of what is no trial, or was another study's."""
    if not record.label.isdecimal():
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
