"""`secateur premise`: is latency a matter of shape here?"""

from __future__ import annotations

from secateur.cli.display import progress_on_stderr
from secateur.cli.output import print_json, print_table, say
from secateur.findings import Premise
from secateur.steps.premise import examine_premise
from secateur.steps.source import find_study, stored_study


def premise(study: str, num_networks: int, store: str, *, as_json: bool) -> None:
    """Test the premise of a study, and say what that means for its gate.

    Raises:
        StudyError: The study has too few trained networks.
        MeasurementError: A network cannot be measured.
    """
    files, _ = find_study(study, store)
    with progress_on_stderr():
        found = examine_premise(files, stored_study(files), num_networks)
    if as_json:
        print_json(
            {
                "study": files.name,
                "holds": found.holds,
                "largest_change": found.largest_change,
                **found.model_dump(mode="json"),
            }
        )
        return
    rows = [
        (
            twin.trial,
            f"{twin.latency_ratio.estimate:.4f}",
            f"[{twin.latency_ratio.low:.4f}, {twin.latency_ratio.high:.4f}]",
            "noisy" if twin.is_noisy else "",
        )
        for twin in found.twins
    ]
    print_table(f"{files.name}: latency trained / untrained", ("trial", "ratio", "95 % interval", ""), rows)
    say(verdict(found))


def verdict(found: Premise) -> str:
    """Return what was found, and what follows, in sentences."""
    mean, tolerance, p = found.mean_ratio, f"{found.tolerance:.0%}", f"{found.p_value:.2g}"
    figures = (
        f"Training changes latency by {mean.estimate - 1:+.2%} on average (90 % interval {mean.low - 1:+.2%} to"
        f" {mean.high - 1:+.2%}), by {found.largest_change:.2%} at most in {len(found.twins)} networks; their standard"
        f" deviation is {found.spread:.2%}."
    )
    if found.holds:
        return (
            f"{figures}\nBefore and after are equivalent within {tolerance} (two one-sided tests, p = {p}): latency is"
            f" a matter of shape here. The gate is on, and allows for {found.largest_change:.2%}."
        )
    return (
        f"{figures}\nThat they are equivalent within {tolerance} was not shown (two one-sided tests, p = {p}): the"
        " latency of an untrained network tells too little here. There is no gate."
    )
