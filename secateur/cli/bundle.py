"""`secateur bundle` and `secateur train`: candidates go to an offline host, and come back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from secateur.cli.display import progress_on_stderr
from secateur.cli.output import print_json, print_table, say
from secateur.steps.bundle import Moved
from secateur.steps.bundle import bundle as write_bundle
from secateur.steps.bundle import take_back as take_results
from secateur.steps.source import find_study, stored_study
from secateur.training.offline import train_jobs


def bundle(
    study: str, folder: Path, trials: int | None, overrides: Sequence[str], store: str, *, as_json: bool
) -> None:
    """Write the next candidates into a folder, and say what to do with it."""
    files, read = find_study(study, store, overrides)
    with progress_on_stderr():
        moved = write_bundle(files, read, folder, trials)
    if as_json:
        print_json({"study": files.name, "folder": str(folder), "candidates": [dataclasses.asdict(m) for m in moved]})
        return
    _print(f"{files.name}: candidates for another host", moved)
    if any(m.fate == "prepared" for m in moved):
        say(f"Copy {folder} to that host. There: 'python -m secateur.training {folder.name} results'.")
        say(f"Copy 'results' back. Here: 'secateur bundle {study} results --take-back'.")
    else:
        say("There is nothing to train.")


def take_back(study: str, folder: Path, overrides: Sequence[str], store: str, *, as_json: bool) -> None:
    """Take results in, and say what is missing."""
    files, _ = find_study(study, store, overrides)
    with progress_on_stderr():
        moved = take_results(files, stored_study(files), folder)
    if as_json:
        print_json({"study": files.name, "candidates": [dataclasses.asdict(m) for m in moved]})
        return
    _print(f"{files.name}: candidates from another host", moved)
    say(f"'secateur sweep {study}' goes on with them.")


def train(jobs: Path, out: Path, *, as_json: bool) -> None:
    """Train a folder of jobs."""
    with progress_on_stderr():
        tally = train_jobs(jobs, out)
    if as_json:
        print_json(dataclasses.asdict(tally))
    else:
        say(f"{tally.summary}. Results: {out}")


def _print(title: str, moved: Sequence[Moved]) -> None:
    print_table(title, ("trial", "", "note"), [(m.label, m.fate, m.note) for m in moved])
