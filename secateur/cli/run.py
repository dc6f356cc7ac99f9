"""`secateur sweep` and `secateur baseline`: flows in this process."""

from __future__ import annotations

from collections.abc import Sequence

from flows import run_baseline, run_study
from secateur.cli.display import progress_on_stderr
from secateur.cli.output import print_json, print_leaderboard, say
from secateur.cli.studies import copy_report
from secateur.report import leaderboard_rows, summary_line
from secateur.store import StudyFiles, open_store


def sweep(study: str, trials: int | None, overrides: Sequence[str], store: str, *, fresh: bool, as_json: bool) -> None:
    """Run a study and show its leaderboard."""
    with progress_on_stderr():
        results = run_study(study, store=store, trials=trials, fresh=fresh, overrides=overrides)
    folder = copy_report(StudyFiles(open_store(store), str(results.study["name"])))
    if as_json:
        print_json(
            {"study": results.study["name"], "report": str(folder / "report.html"), "trials": leaderboard_rows(results)}
        )
        return
    print_leaderboard(results)
    say(summary_line(results))
    say(f"Report: {folder / 'report.html'}")


def baseline(study: str, overrides: Sequence[str], store: str, *, as_json: bool) -> None:
    """Run a study's baselines and show them."""
    with progress_on_stderr():
        results = run_baseline(study, store=store, overrides=overrides)
    if as_json:
        print_json({label: record.model_dump(mode="json") for label, record in results.baselines.items()})
    else:
        print_leaderboard(results)
