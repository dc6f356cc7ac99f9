"""`secateur remeasure`: is everything still as fast as it was?"""

from __future__ import annotations

from dataclasses import asdict

from flows import run_remeasure
from secateur.cli.display import progress_on_stderr
from secateur.cli.output import print_json, print_table, say
from secateur.drift import MIN_NIGHTS, Comparison, Drift, find_drift
from secateur.errors import DriftError
from secateur.steps.source import find_study
from secateur.store import StudyFiles


def remeasure(study: str, store: str, *, as_json: bool) -> None:
    """Measure a study's networks again on this host, and show them beside the nights before.

    Raises:
        DriftError: The device or a network is not what it was; all is shown first.
    """
    files, _ = find_study(study, store)
    problem = None
    with progress_on_stderr():
        try:
            run_remeasure(study, store=store)
        except DriftError as exc:
            problem = exc
    drift = _last(files)
    if as_json:
        print_json({"study": files.name, **asdict(drift), "has_changed": drift.has_changed, "told": drift.sentences})
    else:
        rows = [_row(comparison) for comparison in drift.comparisons]
        print_table(f"{files.name}, {drift.measured_at}", ("network", "figure", "now", "predicted", "nights", ""), rows)
    if problem is not None:
        raise problem
    if not as_json:
        for sentence in drift.sentences:
            say(sentence)
        say(_all_is_well(drift))


def _last(files: StudyFiles) -> Drift:
    nights = files.nights()
    return find_drift([night for night in nights if night.place == nights[-1].place])


def _row(comparison: Comparison) -> tuple[str, ...]:
    predicted = comparison.predicted
    return (
        comparison.network,
        comparison.metric,
        f"{comparison.value:.4f}",
        "-" if predicted is None else f"[{predicted[0]:.4f}, {predicted[1]:.4f}]",
        str(comparison.num_nights),
        f"{comparison.told_by} changed" if comparison.has_changed else "",
    )


def _all_is_well(drift: Drift) -> str:
    num_nights = min(comparison.num_nights for comparison in drift.comparisons)
    if num_nights < MIN_NIGHTS:
        return f"Too few nights to compare with ({num_nights}, needed: {MIN_NIGHTS})."
    return "Nothing has changed: neither the device nor a model."
