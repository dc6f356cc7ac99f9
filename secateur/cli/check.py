"""`secateur check`: is a study, or a schedule, right?"""

from __future__ import annotations

from pathlib import Path

from secateur.candidate import check_against_model, check_study
from secateur.cli.output import say
from secateur.config import load_study
from secateur.config.located import load_yaml
from secateur.errors import InputError
from secateur.models import create_model
from secateur.schedule import check_fit, load_schedule


def check(path: Path, model_name: str | None) -> None:
    """Check a file; a file with policies is a schedule.

    Raises:
        InputError: With every problem.
    """
    if "policies" in load_yaml(path, InputError).value:
        schedule = load_schedule(path)
        if model_name is not None:
            model = create_model(model_name, num_classes=10)
            shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
            check_fit(schedule, shapes, model_name, num_epochs=0)
        say(f"{path}: a schedule, and right: {len(schedule.entries)} entries, {len(schedule.policies)} policies.")
        return
    study = load_study(path)
    problems: list[str] = []
    for step in (check_study, check_against_model):
        try:
            step(study)
        except InputError as exc:
            problems += exc.problems
    if problems:
        raise InputError(*dict.fromkeys(problems))
    say(f"{path}: a study, and right: {len(study.search.parameters)} parameters, {study.budget.trials} trials.")
