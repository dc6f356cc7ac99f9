"""Commands that look at studies, or give orders to those that run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur.cli.output import print_json, print_leaderboard, print_table, say
from secateur.errors import SecateurError
from secateur.report import leaderboard_rows, summary_line
from secateur.steps.report import write_report
from secateur.steps.source import find_study, stored_study
from secateur.store import StudyFiles, list_studies, open_store, read_lease

RUNS = Path("runs")


def _files(study: str, store: str) -> StudyFiles:
    """Return the files of a study that was begun, given its name or its YAML file."""
    files, _ = find_study(study, store)
    stored_study(files)
    return files


def status(study: str | None, store: str, *, as_json: bool) -> None:
    """Show how far studies are."""
    opened = open_store(store)
    names = [_files(study, store).name] if study else list_studies(opened)
    documents = [_status(StudyFiles(opened, name)) for name in names]
    if as_json:
        print_json({"studies": documents})
    elif study:
        print_leaderboard(StudyFiles(opened, names[0]).results())
        say(documents[0]["summary"])
        say(_activity(documents[0]))
    elif documents:
        columns = ("study", "finished", "of", "failed", "now")
        rows = [(d["study"], d["num_finished"], d["num_trials"], d["num_failed"], _activity(d)) for d in documents]
        print_table(f"Studies in {opened.url}", columns, rows)
    else:
        say(f"No studies in {opened.url} yet. 'secateur sweep STUDY.yaml' begins one.")


def _status(files: StudyFiles) -> dict[str, Any]:
    results = files.results()
    lease = read_lease(files.store, files.name)
    return {
        "study": files.name,
        "num_trials": results.study["budget"]["trials"],
        "num_finished": sum(trial.is_finished for trial in results.trials),
        "num_failed": sum(trial.state == "failed" for trial in results.trials),
        "running": [{"trial": t.label, "state": t.state} for t in results.trials if not t.is_finished],
        "order": files.read_control(),
        "lease": None if lease is None else lease.model_dump(mode="json"),
        "summary": summary_line(results),
        "leaderboard": leaderboard_rows(results),
    }


def _activity(status: Mapping[str, Any]) -> str:
    if (lease := status["lease"]) is None:
        return "not running"
    paused = "paused, " if status["order"] == "pause" else ""
    where = f" (UI: {lease['server_url']})" if lease["server_url"] else ""
    return f"{paused}{lease['activity']}: process {lease['pid']} on {lease['host']}{where}"


def pause(study: str, store: str) -> None:
    """Order a pause."""
    files = _files(study, store)
    files.write_control("pause")
    say(f"{files.name} pauses after the trial at hand. 'secateur resume {files.name}' lets it go on.")


def resume(study: str, store: str) -> None:
    """Take a pause back."""
    files = _files(study, store)
    files.write_control("run")
    is_running = read_lease(files.store, files.name) is not None
    say(f"{files.name} goes on." if is_running else f"{files.name} is free to run: 'secateur sweep {study}'.")


def cancel(study: str, store: str) -> None:
    """Order the end of a running sweep.

    Raises:
        SecateurError: None is running.
    """
    files = _files(study, store)
    if read_lease(files.store, files.name) is None:
        raise SecateurError(f"no sweep of {files.name!r} is running, so there is nothing to cancel.")
    files.write_control("cancel")
    say(f"{files.name} ends after the trial at hand; what it found is kept.")


def report(study: str, store: str, *, as_json: bool) -> None:
    """Write the report, with all its images."""
    files = _files(study, store)
    write_report(files, files.results(), has_all_images=True)
    folder = copy_report(files)
    if as_json:
        print_json({"html": str(folder / "report.html"), "markdown": str(folder / "report.md")})
    else:
        say(f"{folder / 'report.html'}\n{folder / 'report.md'}")


def copy_report(files: StudyFiles) -> Path:
    """Copy the report out of the store to where people look for it; return the folder.

    Raises:
        SecateurError: It cannot be written.
    """
    folder = RUNS / files.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.read_report().items():
            (folder / name).write_bytes(data)
    except OSError as exc:
        raise SecateurError(
            f"{folder}: the report cannot be written: {exc}. The trials are safe in {files.store.url}."
        ) from exc
    return folder
