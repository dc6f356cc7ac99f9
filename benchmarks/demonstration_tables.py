"""The demonstration's tables: every network on every device, and every claim."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from demonstration_arms import champion, claims_in, rival_of
from scipy.stats import t as student

ALPHA, POWER = 0.05, 0.8


def detectable(deviation: float, num_seeds: int) -> float:
    """Return the difference of two means that a two-sided t-test finds with the stated power.

    Args:
        deviation: Standard deviation from seed to seed, the same in both arms.
        num_seeds: In each arm, at least two.
    """
    degrees = 2 * num_seeds - 2
    quantiles = student.ppf(1 - ALPHA / 2, degrees) + student.ppf(POWER, degrees)
    return float(deviation * math.sqrt(2 / num_seeds) * quantiles)


def show(content: Mapping[str, Any]) -> None:
    """Print every network on every device, and every claim."""
    top1 = {name: [run["test_top1"] for run in runs.values()] for name, runs in content["trained"].items()}
    devices = content["measured"]
    ratios = {
        device: {name: [run[name]["estimate"] for run in runs.values() if name in run] for name in top1}
        for device, runs in devices.items()
    }
    print("| network | seeds | test top1 |" + "".join(f" latency ratio, {device} |" for device in devices))
    print("|" + " --- |" * (3 + len(devices)))
    for name, values in top1.items():
        cells = [f"{statistics.mean(ratios[device][name]):.3f} ({spread(ratios[device][name])})" for device in devices]
        print(f"| {name} | {len(values)} | {statistics.mean(values):.2f} ({spread(values)}) | {' | '.join(cells)} |")
    print("\nMeans over the seeds (standard deviation).\n")
    print("| champion | its search | its device | top1 gained [95 %] | detectable | times as fast |")
    print("|" + " --- |" * 6)
    for device, kind, claim, label in claims_in(content["chosen"]):
        ours, rival = champion(kind, device, label), rival_of(claim)
        speed = statistics.mean(ratios[device][rival]) / statistics.mean(ratios[device][ours])
        gained, finds = difference(top1[ours], top1[rival])
        print(f"| {claim} (trial {label}) | {kind} | {device} | {gained} | {finds} | {speed:.2f} |")


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[str, str]:
    """Return the difference of two means with its interval (Welch 1947), and what could have been detected."""
    gained, num_seeds = statistics.mean(ours) - statistics.mean(theirs), min(len(ours), len(theirs))
    if num_seeds < 2 or not any(variances := [statistics.variance(values) for values in (ours, theirs)]):
        return f"{gained:+.2f}", "-"
    shares = [variance / len(values) for variance, values in zip(variances, (ours, theirs), strict=True)]
    degrees = sum(shares) ** 2 / sum(
        share**2 / (len(values) - 1) for share, values in zip(shares, (ours, theirs), strict=True)
    )
    margin = student.ppf(1 - ALPHA / 2, degrees) * math.sqrt(sum(shares))
    finds = detectable(math.sqrt(statistics.mean(variances)), num_seeds)
    return f"{gained:+.2f} [{gained - margin:+.2f}, {gained + margin:+.2f}]", f"{finds:.2f}"


def spread(values: Sequence[float]) -> str:
    return f"{statistics.stdev(values):.3f}" if len(values) > 1 else "-"
