"""What gate and early stopping would have saved in recorded studies, and what their fronts would have lost.

    python benchmarks/early_stopping.py record STORE... --out benchmarks/results/curves.json
    python benchmarks/early_stopping.py show benchmarks/results/curves.json

`record` takes the studies of stores in which every candidate was trained to the end (``gate: false``, ``stop_early:
false``), and keeps of each trial its latency ratio, its size, and its curve: top1 before training and after every
epoch.

`show` replays each study as if its candidates had been measured first, and judged by `secateur.prospects` before
training and after each epoch. The rule learns from the study's own curves; its two constants are chosen on the other
studies (the most epochs saved, as long as none of their fronts loses 0.1 points on average over the orders), and then
applied to the study left out. What a front loses is the greatest drop of top1, at any latency, of the best network that
is as fast. A study is replayed in its own order and in random ones: which trials come first matters, and a search could
have had others.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from secateur.config import Constraint
from secateur.leaderboard import is_feasible, pareto_front
from secateur.prospects import (
    DEFAULT_SHIFT,
    LEVEL,
    MIN_COURSES,
    Contest,
    Course,
    Outlook,
    best_final_top1,
    course_of,
    standard_error,
)
from secateur.results import StudyResults
from secateur.store import StudyFiles, list_studies, open_store

OBJECTIVES = {"latency_ratio": "minimize", "top1": "maximize"}
SETTINGS = tuple(itertools.product((5, 8, 12), (0.9, 0.95, 0.99, 0.995, 0.999)))
"""Fewest curves, and level: what is chosen from."""
TOLERANCE = 0.1
"""Points that a front may lose."""
NUM_SPREADS = 3.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate, trained to the end."""

    latency_ratio: float
    low: float
    """End of its interval."""
    course: Course


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One study."""

    name: str
    num_images: int
    """That validate."""
    unpruned_top1: float
    constraints: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def num_epochs(self) -> int:
        """Of each trial."""
        return len(self.trials[0].course.top1) - 1


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a replay led to."""

    saved: float
    """Share of the epochs."""
    loss: float
    """Of top1, in points, at the latency where it is greatest."""
    num_gated: int
    num_stopped: int


def replay(
    study: Recorded, order: Sequence[int], min_courses: int, level: float, *, is_gated: bool, shift: float
) -> Outcome:
    """Judge the trials one after the other, by those before them."""
    complete: list[Trial] = []
    front: list[Trial] = []
    num_trained, num_gated, num_stopped = 0, 0, 0
    for trial in (study.trials[i] for i in order):
        num_epochs = study.num_epochs
        for epoch in range(0 if is_gated else 1, study.num_epochs):
            if not may_win(study, complete, front, trial, epoch, min_courses, level, shift):
                num_epochs = epoch
                break
        num_trained += num_epochs
        if num_epochs == study.num_epochs:
            complete.append(trial)
            front = front_of(study, [*front, trial])
        elif num_epochs == 0:
            num_gated += 1
        else:
            num_stopped += 1
    whole = study.num_epochs * len(order)
    return Outcome(
        saved=1 - num_trained / whole, loss=loss_of(study, complete), num_gated=num_gated, num_stopped=num_stopped
    )


def may_win(
    study: Recorded,
    complete: Sequence[Trial],
    front: Sequence[Trial],
    trial: Trial,
    epoch: int,
    min_courses: int,
    level: float,
    shift: float,
) -> bool:
    """Tell whether a trial, after so many epochs, may still enter the front of those that are complete."""
    if (epoch == 0 and not front) or (epoch > 0 and len(complete) < min_courses):
        return True
    highest = max([study.unpruned_top1, *(other.course.top1[-1] for other in complete)])
    highest += NUM_SPREADS * standard_error(highest, study.num_images)
    best = best_final_top1(
        trial.course.top1[epoch],
        epoch,
        [other.course for other in complete],
        num_params=None if epoch else trial.course.num_params,
        min_courses=min_courses,
        level=level,
    )
    best = min(highest, best)
    outlook = Outlook(low={"latency_ratio": trial.low * (1 - shift)}, high={"top1": best})
    return contest(study, [metrics_of(trial) for trial in front]).is_open_to(outlook)


def metrics_of(trial: Trial) -> dict[str, float]:
    return {"latency_ratio": trial.latency_ratio, "top1": trial.course.top1[-1]}


def contest(study: Recorded, front: Sequence[dict[str, float]]) -> Contest:
    constraints = tuple(Constraint.parse(text) for text in study.constraints)
    baselines = {"baseline": {"top1": study.unpruned_top1}}
    return Contest(objectives=OBJECTIVES, constraints=constraints, baselines=baselines, front=tuple(front))


def front_of(study: Recorded, trials: Sequence[Trial]) -> list[Trial]:
    asked = contest(study, [])
    feasible = [t for t in trials if is_feasible(metrics_of(t), asked.constraints, asked.baselines)]
    return [feasible[i] for i in pareto_front([metrics_of(t) for t in feasible], OBJECTIVES)]


def loss_of(study: Recorded, complete: Sequence[Trial]) -> float:
    """Return by how much the front of the trials that were trained lies below that of all, at worst.

    Where none is as fast any more, the loss is counted down to what the constraint asks for.
    """
    feasible = front_of(study, complete)
    asked = contest(study, [])
    bounds = [c.bound(asked.baselines) for c in asked.constraints if c.metric == "top1"]
    losses, floor = [0.0], max(bounds, default=0.0)
    for best in front_of(study, study.trials):
        as_fast = [trial.course.top1[-1] for trial in feasible if trial.latency_ratio <= best.latency_ratio]
        losses.append(best.course.top1[-1] - max(as_fast, default=floor))
    return max(losses)


def orders(study: Recorded, num_orders: int) -> Iterator[list[int]]:
    """Yield the recorded order, then random ones."""
    order = list(range(len(study.trials)))
    yield order
    rng = random.Random(study.name)
    for _ in range(num_orders - 1):
        yield rng.sample(order, len(order))


@cache
def outcomes(study: Recorded, num_orders: int, setting: tuple[int, float], **how: Any) -> list[Outcome]:
    return [replay(study, order, *setting, **how) for order in orders(study, num_orders)]


def choose(studies: Sequence[Recorded], num_orders: int, **how: Any) -> tuple[int, float]:
    """Return the setting that saves most while each study's mean loss is within the tolerance; else the safest."""

    def merit(setting: tuple[int, float]) -> tuple[bool, float]:
        found = [outcomes(study, num_orders, setting, **how) for study in studies]
        loss = max(fmean(outcome.loss for outcome in of_study) for of_study in found)
        return loss < TOLERANCE, fmean(o.saved for of_study in found for o in of_study) if loss < TOLERANCE else -loss

    return max(SETTINGS, key=merit)


def show(studies: Sequence[Recorded], num_orders: int, shift: float) -> None:
    for is_gated in (False, True):
        how = {"is_gated": is_gated, "shift": shift}
        print(f"\n{'Gate and early stopping' if is_gated else 'Early stopping alone'}; {num_orders} orders a study")
        columns = f"{'loss: mean':>12}{'median':>8}{'worst':>8}{'< 0.1 in':>10}"
        print(f"{'study left out':<28}{'trials':>7}{'epochs':>7}{'curves':>8}{'level':>8}{'saved':>8}{columns}")
        left_out, shipped = [], []
        for study in studies:
            others = [other for other in studies if other is not study]
            setting = choose(others, num_orders, **how) if others else (MIN_COURSES, LEVEL)
            left_out.append(outcomes(study, num_orders, setting, **how))
            shipped.append(outcomes(study, num_orders, (MIN_COURSES, LEVEL), **how))
            head = f"{study.name:<28}{len(study.trials):>7}{study.num_epochs:>7}{setting[0]:>8}{setting[1]:>8g}"
            print(head + figures(left_out[-1]))
        print(f"{'all':<58}{figures(list(itertools.chain(*left_out)))}")
        head = f"{'all, as shipped':<42}{MIN_COURSES:>8}{LEVEL:>8g}"
        print(head + figures(list(itertools.chain(*shipped))))


def figures(found: Sequence[Outcome]) -> str:
    losses = sorted(outcome.loss for outcome in found)
    within = fmean(loss < TOLERANCE for loss in losses)
    saved = fmean(outcome.saved for outcome in found)
    return f"{saved:>8.0%}{fmean(losses):>12.2f}{losses[len(losses) // 2]:>8.2f}{losses[-1]:>8.2f}{within:>10.0%}"


def recorded(results: StudyResults) -> Recorded | None:
    """Return a study; None if it has no curves that all were trained to the end."""
    num_epochs = int(results.study["training"]["epochs"])
    unpruned = results.baselines.get("unpruned")
    known: dict[str, Trial] = {}
    for record in results.trials:
        if record.is_usable and record.is_trained and record.compressed and record.latency:
            ratio = record.latency.latency_ratio
            trial = Trial(latency_ratio=ratio.estimate, low=ratio.low, course=course_of(record))
            if len(trial.course.top1) == num_epochs + 1:
                known.setdefault(record.compressed.checkpoint, trial)
    if num_epochs < 2 or len(known) < 2 or unpruned is None or unpruned.compressed is None:
        return None
    return Recorded(
        name=results.study["name"],
        num_images=unpruned.compressed.validation.num_images,
        unpruned_top1=unpruned.metrics["top1"],
        constraints=tuple(results.study["search"]["constraints"]),
        trials=tuple(known.values()),
    )


def record(stores: Sequence[str], out: Path) -> None:
    studies = {}
    for url in stores:
        store = open_store(url)
        for name in list_studies(store):
            if (study := recorded(StudyFiles(store, name).results())) is not None:
                studies[name] = study
    out.write_text(json.dumps([to_json(study) for study in studies.values()], indent=1) + "\n")
    print(f"{out}: " + ", ".join(f"{study.name} ({len(study.trials)})" for study in studies.values()))


def to_json(study: Recorded) -> dict[str, Any]:
    trials = [
        [round(t.latency_ratio, 4), round(t.low, 4), t.course.num_params, *(round(top1, 2) for top1 in t.course.top1)]
        for t in study.trials
    ]
    return {
        "name": study.name,
        "num_images": study.num_images,
        "unpruned_top1": round(study.unpruned_top1, 2),
        "constraints": list(study.constraints),
        "trials: latency ratio, its interval's low end, parameters, top1 before training and after each epoch": [
            json.dumps(trial) for trial in trials
        ],
    }


def from_json(document: dict[str, Any]) -> Recorded:
    *fields, rows = document.items()
    trials = (json.loads(row) for row in rows[1])
    return Recorded(
        **{**dict(fields), "constraints": tuple(document["constraints"])},
        trials=tuple(
            Trial(latency_ratio=ratio, low=low, course=Course(num_params, tuple(top1)))
            for ratio, low, num_params, *top1 in trials
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("stores", nargs="+")
    recording.add_argument("--out", type=Path, required=True)
    showing = commands.add_parser("show")
    showing.add_argument("curves", type=Path)
    showing.add_argument("--orders", type=int, default=20)
    showing.add_argument("--shift", type=float, default=DEFAULT_SHIFT, help="What a premise found; relative.")
    arguments = parser.parse_args()
    if arguments.command == "record":
        record(arguments.stores, arguments.out)
    else:
        studies = [from_json(study) for study in json.loads(arguments.curves.read_text())]
        show(studies, arguments.orders, arguments.shift)


if __name__ == "__main__":
    main()
