"""Candidates go to a host without a network, as files, and come back trained: see `secateur.training.jobs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch

from secateur import progress
from secateur.candidate import Workshop
from secateur.config import Study
from secateur.datasets import Splits
from secateur.errors import ExportError, JobError, ScheduleError, StudyError, ThinningError
from secateur.identity import acting_later
from secateur.methods.learning_rates import PLATEAU
from secateur.parameters import most_epochs
from secateur.results import BASELINES, OFF_THE_SHELF, UNPRUNED, Failure, State, TrialRecord
from secateur.retraining import Pruned
from secateur.schedule import Schedule
from secateur.steps.compress import compress, unpruned_checkpoint
from secateur.steps.gate import OperationGate
from secateur.steps.open import open_study
from secateur.steps.propose import propose
from secateur.steps.record import now, proposed
from secateur.store import StudyFiles, StudyLease, get_object
from secateur.thinning import save_network
from secateur.training import TrainingResult, evaluate
from secateur.training.jobs import (
    Diverged,
    Job,
    Result,
    Scaling,
    folder_of,
    keep,
    read_outcome,
    read_tensors,
    write_job,
    writing,
)

Fate = Literal["prepared", "known", "failed", "taken back", "diverged", "missing"]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What became of one candidate on its way out, or back."""

    label: str
    """The trial's, or off_the_shelf."""
    fate: Fate
    """known: an equal candidate has a result already, or is prepared. missing: it is not among the results."""
    note: str = ""


def bundle(files: StudyFiles, study: Study, out_dir: Path, num_trials: int | None) -> list[Moved]:
    """Write the schedule's own setting and the next trials into a folder, for `secateur train` elsewhere.

    The study is begun if it was not; trials are proposed as its sweep would. The unpruned network is made here.

    Args:
        files: Of the study.
        study: As the user wrote it.
        out_dir: Jobs of earlier calls stay in it.
        num_trials: Unfinished trials come first, then new ones; by default as many as a batch of the sweep has.

    Raises:
        StudyError: Nothing is retrained, or the schedule acts in ways that cannot go along.
        StudyBusyError: A sweep of the study is running.
        JobError: The folder cannot be written, or the images are too many for it.
    """
    with _held(files, f"writing a bundle to {out_dir}") as renew:
        study = open_study(files, study)
        workshop = Workshop(study=study, store=files.store, gate=OperationGate(study.device))
        _check_portable(workshop.schedule, study)
        _make_unpruned(workshop, files)
        renew()
        records = _next_records(files, study, study.budget.parallel if num_trials is None else num_trials)
        unpruned, images, moved, prepared = unpruned_checkpoint(files), None, [], dict[str, str]()
        with progress.track("prepare candidates", total=len(records)) as bar, writing(out_dir):
            for record in records:
                of_trial = workshop.for_trial(record.parameters, record.seed)
                pruned = _pruned(of_trial, unpruned, record)
                if isinstance(pruned, Pruned) and (same := prepared.get(pruned.identity)) is not None:
                    moved.append(Moved(label=record.label, fate="known", note=f"the network of {same}"))
                elif isinstance(pruned, Pruned):
                    prepared[pruned.identity] = record.label
                    images = images or _keep_images(out_dir, workshop.splits)
                    write_job(out_dir, _job(of_trial, pruned, record, out_dir, images))
                    moved.append(Moved(label=record.label, fate="prepared"))
                else:
                    moved.append(pruned)
                renew()
                bar.advance()
    return moved


def take_back(files: StudyFiles, study: Study, results_dir: Path) -> list[Moved]:
    """Evaluate, export and keep what an offline host has trained, as if it had been trained here.

    The sweep finds the networks done. Candidates that diverged there are recorded as failed.

    Args:
        files: Of the study.
        study: As it was begun.
        results_dir: What `secateur train` wrote.

    Raises:
        JobError: A result is damaged.
        StudyBusyError: A sweep of the study is running.
    """
    with _held(files, f"taking results from {results_dir}") as renew:
        workshop = Workshop(study=study, store=files.store, gate=OperationGate(study.device))
        unpruned = unpruned_checkpoint(files)
        records = _in_state(files, "proposed", "compressed")
        moved = []
        with progress.track("take results back", total=len(records)) as bar:
            for record in records:
                if record.state == "proposed":
                    of_trial = workshop.for_trial(record.parameters, record.seed)
                    moved.append(_take_back(of_trial, files, unpruned, record, results_dir))
                else:
                    moved.append(Moved(label=record.label, fate="known"))
                renew()
                bar.advance()
    return moved


def _pruned(workshop: Workshop, unpruned: str, record: TrialRecord) -> Pruned | Moved:
    """Return a candidate whose retraining is to be done, or why there is none."""
    try:
        pruned = workshop.prune(unpruned, record.parameters)
        if workshop.earlier(pruned.identity) is not None:
            return Moved(label=record.label, fate="known")
        workshop.export(pruned.module, num_checks=0)  # what the device cannot run is not worth training
    except (ThinningError, ExportError) as exc:  # the sweep will find, and record, the same
        return Moved(label=record.label, fate="failed", note=str(exc))
    return pruned


def _take_back(workshop: Workshop, files: StudyFiles, unpruned: str, record: TrialRecord, results_dir: Path) -> Moved:
    pruned = _pruned(workshop, unpruned, record)
    if isinstance(pruned, Moved):
        if pruned.fate == "known":
            compress(workshop, files, record.label, torch.get_num_threads())  # an earlier attempt did not come to it
        return pruned
    outcome = read_outcome(results_dir, _digest_in(pruned.identity))
    if outcome is None:
        return Moved(label=record.label, fate="missing")
    if isinstance(outcome, Diverged):
        failure = Failure(phase="compress", type="TrainingError", message=outcome.message)
        files.write_record(record.model_copy(update={"state": "failed", "failure": failure, "finished_at": now()}))
        return Moved(label=record.label, fate="diverged", note=outcome.message)
    workshop.complete(pruned, lambda: _trained_elsewhere(workshop, pruned, outcome, results_dir))
    compress(workshop, files, record.label, torch.get_num_threads())  # the record names it now: it is nobody's garbage
    return Moved(label=record.label, fate="taken back", note=f"trained on {outcome.device} in {outcome.precision}")


def _trained_elsewhere(workshop: Workshop, pruned: Pruned, result: Result, results_dir: Path) -> TrainingResult:
    """Give the pruned module the weights it was trained to; they are evaluated here."""
    path = folder_of(results_dir, result.identity) / "weights.safetensors"
    weights = read_tensors(path, result.weights)
    try:
        pruned.module.load_state_dict(weights)
    except RuntimeError as exc:
        raise JobError(f"{path}: these are not the weights of this candidate: {exc}") from exc
    if (num_epochs := len(result.epochs)) != workshop.study.training.epochs:
        raise JobError(f"{path.parent}: was trained for {num_epochs} epochs, not {workshop.study.training.epochs}.")
    splits = workshop.splits
    validation = evaluate(pruned.module, splits.validation, splits.normalize, device=workshop.device)
    return TrainingResult(epochs=result.epochs, validation=validation)


def _check_portable(schedule: Schedule, study: Study) -> None:
    """Refuse what an offline host, which has no schedule, cannot do."""
    if most_epochs(study) == 0:
        raise StudyError(
            f"study {study.name!r}: nothing is retrained (training.epochs is 0), so nothing can go elsewhere."
        )
    plateaus = [policy for policy in schedule.policies if policy.entry.class_name == PLATEAU]
    problems = [
        f"{policy.place}: {policy.entry.kind} {policy.entry.name!r} ({policy.entry.class_name}) acts while a network is"
        " retrained, which an offline host cannot do. Take the policy out, or sweep where the network is retrained"
        " ('secateur sweep', or a worker: 'secateur up')."
        for policy in [*acting_later(schedule, most_epochs(study)), *plateaus]
    ]
    if problems:
        raise ScheduleError(*problems)


def _digest_in(cache_key: str) -> str:
    return Path(cache_key).stem


def _make_unpruned(workshop: Workshop, files: StudyFiles) -> None:
    """Import or train the unpruned network, as the sweep would, and write both baselines' records down."""
    known = files.baselines()
    for label in BASELINES:
        if label not in known:
            seed = workshop.study.search.seed
            files.write_record(proposed(files.name, label, method="baseline", parameters={}, seed=seed))
    compress(workshop, files, UNPRUNED, torch.get_num_threads())


def _in_state(files: StudyFiles, *states: State) -> list[TrialRecord]:
    """Return the records of candidates in one of some states: the schedule's own setting first."""
    results = files.results()
    records = [results.baselines.get(OFF_THE_SHELF), *results.trials]
    return [record for record in records if record is not None and record.state in states]


def _next_records(files: StudyFiles, study: Study, num_trials: int) -> list[TrialRecord]:
    results = files.results()
    num_open = sum(trial.state == "proposed" for trial in results.trials)
    num_new = min(num_trials - num_open, study.budget.trials - len(results.trials))
    if num_new > 0:
        propose(files, study, results, num_new)
    records = _in_state(files, "proposed")
    num_baselines = sum(record.label == OFF_THE_SHELF for record in records)
    return records[: num_baselines + num_trials]


def _job(workshop: Workshop, pruned: Pruned, record: TrialRecord, out_dir: Path, images: str) -> Job:
    training, normalize = workshop.study.training, workshop.splits.normalize
    if workshop.is_recalibrated(pruned):
        workshop.recalibrate(pruned)
    network = save_network(pruned.network)
    teacher = get_object(workshop.store, pruned.unpruned)
    masks = {name: mask.to(torch.uint8) for name, mask in pruned.engine.masks.items()}
    return Job(
        identity=_digest_in(pruned.identity),
        study=record.study,
        trial=record.label,
        network=keep(out_dir, lambda path: path.write_bytes(network)),
        masks=keep(out_dir, lambda path: safetensors.torch.save_file(masks, path)) if masks else None,
        teacher=keep(out_dir, lambda path: path.write_bytes(teacher)) if training.distillation else None,
        images=images,
        normalize=Scaling(mean=normalize.mean, std=normalize.std),
        learning_rates=pruned.engine.learning_rates if workshop.schedule.of_kind("lr_scheduler") else (),
        settings=workshop.settings(training),
        precision=training.precision,
    )


def _keep_images(out_dir: Path, splits: Splits) -> str:
    """Write what is trained on and validated with; test images stay at home."""
    train, validation = splits.train, splits.validation
    if train.images_NHWC is None or validation.images_NHWC is None:
        raise JobError(
            f"A bundle holds its images decoded, but {len(train) + len(validation)} are streamed from their files:"
            " they would take more memory than dataset.max_memory_bytes. Raise it, or train where the files are."
        )
    tensors = {
        "train_NHWC": train.images_NHWC,
        "train_N": train.labels_N,
        "validation_NHWC": validation.images_NHWC,
        "validation_N": validation.labels_N,
    }
    return keep(out_dir, lambda path: safetensors.torch.save_file(tensors, path))


@contextmanager
def _held(files: StudyFiles, activity: str) -> Iterator[Callable[[], None]]:
    """Keep sweeps of the study away; the function that is given raises if that is over."""
    with StudyLease(files.store, files.name).held() as lease:
        lease.renew(activity)
        yield lease.renew
