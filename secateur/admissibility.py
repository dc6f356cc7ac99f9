"""Does a study fit its schedule and its model? What can be told without computing anything."""

from __future__ import annotations

from pathlib import Path

from secateur.config import Study, unseen_validation
from secateur.config.located import Located
from secateur.errors import StudyError
from secateur.identity import reshaping_later
from secateur.models import create_model
from secateur.parameters import check_blocks, check_parameters, most_epochs
from secateur.schedule import Schedule, check_fit, load_schedule, parse_schedule


def schedule_of(study: Study) -> Schedule:
    """Return the study's base schedule, from its file or from the study itself.

    Raises:
        ScheduleError: It is wrong.
    """
    if isinstance(study.schedule, Path):
        return load_schedule(study.schedule)
    return parse_schedule(Located(value=study.schedule, source=f"study {study.name!r}, schedule"))


def check_study(study: Study) -> Study:
    """Check all that can be checked without computing anything; write schedule and validation out in the study.

    Raises:
        InputError: With every problem found at the first step that has some.
    """
    schedule = schedule_of(study)
    study = check_parameters(study, schedule)
    if study.training.lr_curve not in ("schedule", None) and (rates := schedule.of_kind("lr_scheduler")):
        raise StudyError(
            f"training.lr_curve: {study.training.lr_curve!r} sets learning rates, and so does the schedule"
            f" ({rates[0].place}). Leave one of them out."
        )
    if study.gate and (later := reshaping_later(schedule, most_epochs(study))):
        raise StudyError(
            f"gate: the shape of a candidate is not known before it is trained, since {later[0].place} prunes then."
            " Leave the gate out."
        )
    return unseen_validation(study)[0].model_copy(update={"schedule": dict(schedule.document)})


def check_against_model(study: Study, num_classes: int = 10) -> None:
    """Check that the model exists, and that the schedule fits it.

    Raises:
        InputError: What does not fit.
    """
    model = create_model(study.model, num_classes)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    schedule = schedule_of(study)
    check_fit(schedule, shapes, study.model, most_epochs(study))
    check_blocks(study, schedule)
