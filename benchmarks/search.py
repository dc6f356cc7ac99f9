"""Whether our search finds more than others do, on a table of networks of the real problem.

    python benchmarks/search.py TABLE.csv                            compare; goes on where it was interrupted
    python benchmarks/search.py TABLE.csv --half even                on one half of the table's entries
    python benchmarks/search.py TABLE.csv --study STUDY.yaml         of another problem than the dissertation's
    python benchmarks/search.py TABLE.csv --record STORE STUDY       write the table: the networks of a study

Compared is the hypervolume of latency ratio and top1 (above a ratio of 1 and chance nothing counts) as a share of what
the whole table has, after 16, 32 and 64 trials: ours, random points, Optuna's TPE and NSGA-II, and a Gaussian process
with expected improvement on a weighted sum, as W&B's bayes is one. A proposal is worth what the entry of the table is
that has nearly the same filters. Differences are tested pair by pair of equal seeds (Wilcoxon 1945, signed ranks, two-
sided), corrected for their number (Holm 1979).

The runs are kept beside the table, in TABLE.runs.json.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from recovery import Results
from scipy.stats import wilcoxon
from search_methods import METHODS
from search_table import STUDY, Entry, Oracle, Problem, Table, entries_of, setting_of

from secateur.store import StudyFiles, open_store

SIZES = (16, 32, 64)
"""Numbers of trials."""
WORST_RATIO = 1.0
CHANCE_TOP1 = 10.0
ALPHA = 0.05
NUM_RESAMPLES = 10_000


def hypervolume(entries: Sequence[Entry]) -> float:
    """Return the area that entries dominate, up to the unpruned latency and down to chance."""
    area, floor = 0.0, CHANCE_TOP1
    for entry in sorted(entries, key=lambda entry: entry.latency_ratio):
        if entry.top1 > floor:
            area += max(0.0, WORST_RATIO - entry.latency_ratio) * (entry.top1 - floor)
            floor = entry.top1
    return area


def run_all(oracle: Oracle, runs: Results, num_seeds: int, num_trials: int) -> None:
    """Run what is missing, seed by seed, so that an interrupted comparison is a fair one of fewer seeds."""
    for seed in range(num_seeds):
        for name, method in METHODS.items():
            if len((runs.get("runs", name, str(seed)) or "").split()) < num_trials:
                rows = method(oracle, num_trials, seed)
                runs.put(" ".join(map(str, rows)), "runs", name, str(seed))
                print(f"seed {seed}: {name} is done", file=sys.stderr, flush=True)


def shares(oracle: Oracle, runs: Results, name: str, num_seeds: int, size: int) -> np.ndarray:
    """Return for each seed the share of the table's hypervolume after so many trials."""
    whole = hypervolume(oracle.entries)
    rows = [runs.get("runs", name, str(seed)).split()[:size] for seed in range(num_seeds)]
    return np.array([hypervolume([oracle.entries[int(row)] for row in seen]) / whole for seen in rows])


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return a mean and its 95 % percentile-bootstrap interval."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (NUM_RESAMPLES, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def holm(p_values: Mapping[tuple[str, int], float]) -> dict[tuple[str, int], float]:
    """Return p-values corrected for their number (Holm 1979)."""
    corrected, highest = {}, 0.0
    for rank, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p))
        corrected[key] = highest
    return corrected


def show(oracle: Oracle, runs: Results, num_seeds: int, sizes: Sequence[int]) -> None:
    """Print the shares of the hypervolume, and what the tests say."""
    found = {(name, size): shares(oracle, runs, name, num_seeds, size) for name in METHODS for size in sizes}
    print(
        f"{len(oracle.entries)} networks, {num_seeds} seeds; share of the table's hypervolume, mean [95 % interval]\n"
    )
    print("| search |" + "".join(f" {size} trials |" for size in sizes) + "\n|" + " --- |" * (len(sizes) + 1))
    for name in METHODS:
        cells = ("{:.4f} [{:.4f}, {:.4f}]".format(*mean_interval(found[name, size])) for size in sizes)
        print(f"| {name} | {' | '.join(cells)} |")
    gains = {(name, size): found["ours", size] - found[name, size] for name, size in found if name != "ours"}
    corrected = holm({key: float(wilcoxon(gain).pvalue) if gain.any() else 1.0 for key, gain in gains.items()})
    print("\n| ours against | trials | mean gain [95 % interval] | p, corrected | verdict |\n|" + " --- |" * 5)
    for (name, size), gain in gains.items():
        mean, low, high = mean_interval(gain)
        p = corrected[name, size]
        verdict = ("ours is better" if mean > 0 else "ours is worse") if p < ALPHA else "no difference to be seen"
        print(f"| {name} | {size} | {mean:+.4f} [{low:+.4f}, {high:+.4f}] | {p:.3g} | {verdict} |")


def main() -> None:
    """Record, or run what is missing and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("--record", nargs=2, metavar=("STORE", "STUDY"), help="of a sweep, without retraining")
    parser.add_argument("--study", default=STUDY, help="that says what can be chosen (default: %(default)s)")
    parser.add_argument("--half", choices=["even", "odd"], help="settings are chosen on one, judged on the other")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, choices=SIZES, default=max(SIZES), help="of the longest search")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table, problem = Table(options.table), Problem.load(options.study)
    if options.record is not None:
        results = StudyFiles(open_store(options.record[0]), options.record[1]).results()
        table.write(setting_of(results), entries_of(problem, results))
        print(f"{options.table}: {len(table.entries)} networks")
        return
    if table.setting is None:
        parser.error(f"{options.table}: there is no such table. Record one with --record.")
    first, step = {"even": (0, 2), "odd": (1, 2), None: (0, 1)}[options.half]
    oracle = Oracle(problem, table.entries[first::step], table.setting["unpruned_top1"])
    runs = Results(options.table.with_suffix(f".{options.half}.runs.json" if options.half else ".runs.json"))
    digest = hashlib.sha256(repr(oracle.entries).encode()).hexdigest()
    if runs.get("table") not in (None, digest):
        parser.error("the runs beside the table are of another state of it: remove or rename them.")
    runs.put(digest, "table")
    run_all(oracle, runs, options.seeds, options.trials)
    show(oracle, runs, options.seeds, [size for size in SIZES if size <= options.trials])


if __name__ == "__main__":
    main()
