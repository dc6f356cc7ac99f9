"""`secateur try`: a person's own candidate."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from pydantic import ValidationError

from secateur.cli.output import print_json, say
from secateur.config import Fixed, ParameterValue
from secateur.errors import StudyError
from secateur.steps.open import open_study
from secateur.steps.propose import queue
from secateur.steps.source import find_study, stored_study


def try_candidate(study: str, assignments: Sequence[str], store: str, *, as_json: bool) -> None:
    """Queue a candidate in a study, which is begun if it was not.

    Raises:
        InputError: The study, a name or a value is wrong, or the network is that of an earlier trial.
    """
    values = dict(map(_parse, assignments))
    files, read = find_study(study, store)
    begun = stored_study(files) if files.exists() else open_study(files, read)
    record = queue(files, begun, values)
    if as_json:
        print_json({"study": files.name, "trial": record.label, "parameters": record.parameters})
        return
    settings = ", ".join(f"{name} = {value}" for name, value in record.parameters.items())
    say(f"trial {record.label} of {files.name}: {settings}")
    say(f"'secateur sweep {study}' runs it next.")


def _parse(assignment: str) -> tuple[str, ParameterValue]:
    name, equals, text = assignment.partition("=")
    if not equals or not name:
        raise StudyError(f"{assignment!r}: expected NAME=VALUE, such as filter_pruner_70.desired_sparsity=0.5.")
    try:
        return name, Fixed(value=yaml.safe_load(text)).value
    except (yaml.YAMLError, ValidationError):
        raise StudyError(f"{assignment!r}: expected a number or a name as its value.") from None
