"""`secateur check`: is a study, or a schedule, right?"""

from __future__ import annotations

from pathlib import Path

from secateur.cli.display import progress_on_stderr
from secateur.cli.output import say
from secateur.config import locate_study
from secateur.config.located import load_yaml
from secateur.errors import InputError
from secateur.models import create_model, default_num_classes
from secateur.preflight import check_before_work
from secateur.resources import here_or_shipped
from secateur.schedule import check_fit, load_schedule


def check(path: Path, model_name: str | None) -> None:
    """Check a file; a file with policies is a schedule. A study's device may be another host's.

    Raises:
        InputError: With every problem.
    """
    path = here_or_shipped(path)
    if "policies" in load_yaml(path, InputError).value:
        schedule = load_schedule(path)
        if model_name is not None:
            model = create_model(model_name, default_num_classes(model_name))
            shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
            check_fit(schedule, shapes, model_name, num_epochs=None)
        say(f"{path}: a schedule, and right: {len(schedule.entries)} entries, {len(schedule.policies)} policies.")
        return
    study, document = locate_study(path)
    with progress_on_stderr():
        check_before_work(study, document, is_device_here=False)
    say(f"{path}: a study, and right: {len(study.search.parameters)} parameters, {study.budget.trials} trials.")
