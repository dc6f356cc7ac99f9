"""`secateur import-wandb`: a W&B sweep configuration becomes a study."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from secateur.admissibility import check_against_model, check_study
from secateur.config.located import load_yaml
from secateur.config.study import complete_study
from secateur.errors import InputError, StudyError
from secateur.schedule import load_schedule
from secateur.wandb_sweep import translate


def import_wandb(
    sweep: Path, schedule: Path, model: str | None, dataset: str | None, rename: Sequence[str], out: Path | None
) -> None:
    """Translate a sweep, check the study, and write it with notes on what it does not say.

    Raises:
        InputError: What has no counterpart, each at its line; or FILE cannot be written.
    """
    folder = Path() if out is None else out.parent
    if not folder.is_dir():
        raise InputError(f"--out {out}: there is no folder {folder}: make it first.")
    translation = translate(
        load_yaml(sweep, StudyError),
        load_schedule(schedule),
        Path(os.path.relpath(schedule, folder)).as_posix(),
        name=sweep.stem if out is None else out.stem,
        model=model,
        dataset=dataset,
        renamed=dict(map(_parse, rename)),
    )
    study = complete_study(translation.study, (), folder)
    check_study(study)
    check_against_model(study)
    notes = [f"From {sweep.name}, a W&B sweep configuration.", *translation.notes]
    text = "".join(f"# {note}\n" for note in notes) + yaml.safe_dump(translation.study.value, sort_keys=False)
    for note in translation.notes:
        print(note, file=sys.stderr)  # noqa: T201
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InputError(f"--out {out}: cannot be written: {exc.strerror}.") from None


def _parse(text: str) -> tuple[str, str]:
    name, equals, target = text.partition("=")
    if not (name and equals and target):
        raise StudyError(
            f"--rename {text}: expected NAME=ENTRY.FIELD, such as layer_1=filter_pruner_70.desired_sparsity."
        )
    return name, target
