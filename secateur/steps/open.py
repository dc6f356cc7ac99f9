"""Open a study: write it down as run, or go on with the one that is there."""

from __future__ import annotations

import yaml

from secateur import progress
from secateur.admissibility import check_study
from secateur.config import Study, unseen_validation
from secateur.errors import StudyError
from secateur.leaderboard import untested
from secateur.results import StudyResults
from secateur.steps.source import stored_study
from secateur.store import StudyFiles

_MAY_CHANGE = {"budget", "champion", "gate", "stop_early"}
"""Fields that a study may be continued with, other than it was begun."""


def open_study(
    files: StudyFiles, study: Study, *, trials: int | None = None, additional_trials: int = 0, fresh: bool = False
) -> Study:
    """Check a study, and write it down with its schedule and all defaults; an earlier one of its name goes on.

    Args:
        files: Of the study.
        study: As the user wrote it.
        trials: In all, instead of the study's own budget; never fewer than there are.
        additional_trials: More than the earlier study was to have. One that did not get there (its process was
            killed) is first brought to its own end, so that repeating the call does not add up.
        fresh: Forget the trials of an earlier study of this name. (Networks and latencies it found are reused.)

    Raises:
        InputError: The study is wrong, or an earlier one of its name was another.
    """
    checked = check_study(study)
    if fresh:
        files.remove()
    earlier, planned = _plan(files, checked, trials, additional_trials)
    if earlier is None and (warning := unseen_validation(study)[1]):
        progress.message(warning)
    if planned.gate and (premise := files.read_premise()) is not None and not premise.holds:
        progress.message(
            f"{study.name}: no gate: 'secateur premise' did not find that latency is a matter of shape here. Every"
            " candidate is trained before it is measured."
        )
    if earlier != planned:
        files.write_study_yaml(planned.to_yaml())
    return planned


def finished(files: StudyFiles, study: Study, *, trials: int | None = None) -> StudyResults | None:
    """Return the results of a study that has nothing left to do; None: it was not begun, or has.

    Arguments and errors as `open_study`.
    """
    earlier, planned = _plan(files, check_study(study), trials, 0)
    if earlier != planned:
        return None
    results = files.results()
    is_searched = len(results.trials) >= planned.budget.trials and all(trial.is_finished for trial in results.trials)
    return results if is_searched and not untested(results) else None


def _plan(files: StudyFiles, study: Study, trials: int | None, additional_trials: int) -> tuple[Study | None, Study]:
    """Return a study as it was begun, if it was, and as it is to be."""
    earlier = stored_study(files) if files.exists() else None
    if earlier is not None and (changes := _differences(earlier, study)):
        raise StudyError(
            f"study {study.name!r} in {files.store.url} was begun with other settings: {'; '.join(changes)}. "
            "Give the new study another name (--set name=...), or start over with --fresh."
        )
    num_trials = trials or study.budget.trials
    if earlier is not None:
        trials_so_far = files.trials()
        num_known, num_planned = len(trials_so_far), earlier.budget.trials
        num_trials = max(num_trials, num_known)  # a study that has grown keeps what it has
        if additional_trials:
            # What a person queued meanwhile does not mean that a sweep was killed.
            is_open = any(not trial.is_finished and trial.method != "manual" for trial in trials_so_far)
            is_at_its_end = num_known >= num_planned and not is_open
            num_trials = num_known + additional_trials if is_at_its_end else max(num_planned, num_known)
    return earlier, study.model_copy(update={"budget": study.budget.model_copy(update={"trials": num_trials})})


def _differences(earlier: Study, study: Study) -> list[str]:
    was, now = (yaml.safe_load(version.to_yaml()) for version in (earlier, study))
    return [
        change for field in was if field not in _MAY_CHANGE for change in _changes(field, was[field], now.get(field))
    ]


def _changes(name: str, was: object, now: object) -> list[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*was, *now])
        return [change for key in keys for change in _changes(f"{name}.{key}", was.get(key), now.get(key))]
    return [] if was == now else [f"{name} was {was!r}, is {now!r}"]
