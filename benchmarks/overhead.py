"""What orchestration costs: a sweep, against the same steps in a bare loop.

Both run the same study: the same parameters, networks and measurements, each time in a store of its own whose
baselines are there. The bare loop calls the steps one after the other, as many candidates at once as the sweep. The
sweep is the ordinary one: Prefect's server, flows, tasks, artifacts. They take turns, so that a machine whose speed
drifts treats both alike, and the ratio is taken pair by pair. A pair that is not counted comes first: it imports Ax.

    python benchmarks/overhead.py [STUDY.yaml] [--trials 16] [--pairs 3] [--set key=value ...]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

from flows import run_baseline, run_study
from flows.compress_candidates import share_cores
from secateur.candidate import Workshop
from secateur.results import TrialRecord
from secateur.steps.compress import compress
from secateur.steps.measure import measure
from secateur.steps.propose import observe, propose
from secateur.steps.source import stored_study
from secateur.store import StudyFiles, open_store


def bare_loop(files: StudyFiles, num_trials: int) -> None:
    """Run the steps of a sweep, and nothing else."""
    study = stored_study(files)
    workshop = Workshop(study=study, store=files.store)
    results = files.results()
    while len(results.trials) < num_trials:
        count = min(study.budget.parallel, num_trials - len(results.trials))
        labels = [record.label for record in propose(files, study, results, count)]
        takes_turns = workshop.device == "cuda" or workshop.draws
        num_at_once, num_threads = share_cores(len(labels), os.cpu_count() or 1, takes_turns=takes_turns)
        with ThreadPoolExecutor(num_at_once) as threads:
            list(threads.map(lambda label, n=num_threads: compress(workshop, files, label, n), labels))
        measure(files, study.device, labels, seed=study.search.seed)
        results = files.results()
        observe(files, study, results)


def span_s(records: tuple[TrialRecord, ...]) -> float:
    """Return the time from the first proposal's beginning to the last measurement's end."""
    begun = min(datetime.fromisoformat(r.created_at).timestamp() - r.seconds["propose"] for r in records)
    return max(datetime.fromisoformat(r.finished_at or r.created_at).timestamp() for r in records) - begun


def main() -> None:
    """Print a row for each pair, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="schedules/studies/resnet56-latency-no-retraining.yaml")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    ratios = []
    print(f"{'pair':>4} {'bare loop s/trial':>18} {'sweep s/trial':>14} {'ratio':>6} {'whole command s':>16}")
    for pair in range(-1, arguments.pairs):
        seconds = {}
        for way in ("bare", "sweep") if pair % 2 == 0 else ("sweep", "bare"):
            with tempfile.TemporaryDirectory() as folder:
                store = str(Path(folder, "store"))
                name = run_baseline(arguments.study, store=store, overrides=arguments.overrides).study["name"]
                files = StudyFiles(open_store(store), name)
                started = time.perf_counter()
                if way == "bare":
                    bare_loop(files, arguments.trials)
                else:
                    run_study(arguments.study, store=store, overrides=arguments.overrides, trials=arguments.trials)
                    seconds["whole"] = time.perf_counter() - started
                seconds[way] = span_s(files.trials()) / arguments.trials
        ratio = seconds["sweep"] / seconds["bare"]
        figures = f"{seconds['bare']:>18.2f} {seconds['sweep']:>14.2f} {ratio:>6.3f} {seconds['whole']:>16.1f}"
        if pair >= 0:
            ratios.append(ratio)
            print(f"{pair:>4} {figures}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")


if __name__ == "__main__":
    main()
