"""`secateur sweep --dry-run`: check everything, estimate time and disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from secateur.cli.display import progress_on_stderr
from secateur.cli.output import print_json, print_table, say
from secateur.errors import StoreFullError
from secateur.preflight import find_checked
from secateur.steps.estimate import estimate


def dry_run(study: str, trials: int | None, overrides: Sequence[str], store: str, *, as_json: bool) -> None:
    """Print what a sweep would take.

    Raises:
        InputError: The study would not run.
        StoreFullError: Its networks would not fit on the disk.
    """
    files, read = find_checked(study, store, overrides)
    if trials is not None:
        read = read.model_copy(update={"budget": read.budget.model_copy(update={"trials": trials})})
    with progress_on_stderr():
        expected = estimate(read, files.store)
    if as_json:
        print_json(
            {"study": read.name, **asdict(expected), "total_s": expected.total_s, "total_bytes": expected.total_bytes}
        )
    else:
        rows = [
            ("device", expected.device),
            ("baselines", _duration(expected.baseline_s)),
            ("one trial, at most", _duration(expected.trial_s)),
            (f"all {expected.num_trials} trials, at most", _duration(expected.total_s)),
            ("disk, at most", f"{expected.total_bytes / 1e6:.1f} MB"),
        ]
        if expected.free_bytes is not None:
            rows.append(("disk, free", f"{expected.free_bytes / 1e6:.1f} MB"))
        print_table(f"{read.name} would run", ("what", "estimate"), rows)
        say("Pruned networks are smaller and several are trained at once, so it will be less. Nothing was run or kept.")
    if expected.free_bytes is not None and expected.total_bytes > expected.free_bytes:
        raise StoreFullError(
            f"{files.store.url}: the study would not fit on this disk. Free some, or name another --store."
        )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
