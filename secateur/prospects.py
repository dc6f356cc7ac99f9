"""Can a candidate still win? What decides whether a network is trained, and for how long.

A candidate wins if it enters the Pareto front of the trials so far, within the study's constraints. Before and during
its training nobody knows its quality, so it is given the best that it might reach: who loses with that, loses.

What it might reach is learned from the study's own training curves; see `best_final_top1`.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.stats import t as student

from secateur.config import Constraint
from secateur.leaderboard import Direction, Row, leaderboard, pareto_front
from secateur.results import OFF_THE_SHELF, UNPRUNED, Gate, StudyResults, TrialRecord

DEFAULT_SHIFT = 0.05
"""By how much training may change a latency, relatively, where no premise was tested."""
MIN_COURSES = 5
"""Trainings that went to their end, from which on something is learned from them."""
LEVEL = 0.99
"""See `best_final_top1`."""
_AUDITED_SHARE = 0.1
_NUM_SPREADS = 3.0
"""Standard deviations between a network's top1 and the most that another seed might make of it."""
_MIN_DEGREES_OF_FREEDOM = 3
"""From which on the spread of replicates is believed."""

_LATENCIES = ("latency_ratio", "device_latency_ratio", "total_latency_ms", "latency_ms")
_SIZES = ("num_params", "macs", "size_bytes")


@dataclass(frozen=True)
class Course:
    """How a network's training went."""

    num_params: int
    top1: tuple[float, ...]
    """Before training, and after each epoch."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Between what bounds a candidate's metrics will lie; of one that is absent nothing is known."""

    low: Mapping[str, float]
    high: Mapping[str, float]

    def best(self, metric: str, direction: Direction) -> float:
        """Return the best value that a metric may take."""
        return self.low.get(metric, -math.inf) if direction == "minimize" else self.high.get(metric, math.inf)


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What a candidate has to enter."""

    objectives: Mapping[str, Direction]
    constraints: tuple[Constraint, ...]
    baselines: Mapping[str, Mapping[str, float]]
    """As `StudyResults.baseline_metrics`."""
    front: tuple[Mapping[str, float], ...]
    """Metrics of the trials on the front; where one's latency is noisy, the slow end of its interval."""

    @classmethod
    def of(cls, results: StudyResults) -> Contest:
        """Return a study's contest as it stands."""
        return cls(
            objectives=results.study["search"]["objectives"],
            constraints=tuple(Constraint.parse(text) for text in results.study["search"]["constraints"]),
            baselines=results.baseline_metrics,
            front=tuple(_cautious(row) for row in leaderboard(results) if row.is_on_front),
        )

    def is_open_to(self, outlook: Outlook) -> bool:
        """Tell whether a candidate may enter the front, if each of its metrics becomes as good as it can."""
        best = {name: outlook.best(name, direction) for name, direction in self.objectives.items()}
        is_undominated = len(self.front) in pareto_front([*self.front, best], self.objectives)
        return is_undominated and all(self._may_hold(constraint, outlook) for constraint in self.constraints)

    def _may_hold(self, constraint: Constraint, outlook: Outlook) -> bool:
        best = outlook.best(constraint.metric, "minimize" if constraint.operator == "<=" else "maximize")
        try:
            return constraint.holds({constraint.metric: best}, self.baselines)
        except KeyError:  # the baseline is not known
            return True


@dataclass(frozen=True, kw_only=True)
class Prospects:
    """What a study's trials so far tell of those that are not trained yet."""

    contest: Contest
    highest_top1: float
    """That any candidate is thought to reach: above the unpruned network's, and above the best trial's."""
    courses: tuple[Course, ...]
    """Of the networks that were trained to the end, for as many epochs as the candidates in question."""
    shift: float
    """By how much training may change a latency, relatively."""

    @classmethod
    def of(cls, results: StudyResults, num_epochs: int, shift: float = DEFAULT_SHIFT) -> Prospects:
        """Return what a study, as it stands, tells of candidates that are to be trained for so many epochs."""
        return cls(
            contest=Contest.of(results),
            highest_top1=highest_top1(results),
            courses=complete_courses(results, num_epochs),
            shift=shift,
        )

    def gate(self, record: TrialRecord) -> Gate:
        """Judge a candidate that was measured, and not trained. As long as the front is empty, all can win."""
        course = course_of(record)
        best_top1 = self._best_top1(course.top1[0], 0, course.num_params)
        can_win = not self.contest.front or self._is_open_to(record, best_top1)
        return Gate(optimistic_top1=best_top1, can_win=can_win, is_audit=not can_win and is_audited(record))

    def goes_on(self, record: TrialRecord, top1: float, num_epochs: int) -> bool:
        """Tell whether a candidate that is at `top1` after so many epochs can still win.

        Its sizes and its latency count as far as the record knows them. With fewer than `MIN_COURSES` all go on.
        """
        return len(self.courses) < MIN_COURSES or self._is_open_to(record, self._best_top1(top1, num_epochs))

    def _best_top1(self, top1: float, num_epochs: int, num_params: int | None = None) -> float:
        return min(self.highest_top1, best_final_top1(top1, num_epochs, self.courses, num_params=num_params))

    def _is_open_to(self, record: TrialRecord, best_top1: float) -> bool:
        return self.contest.is_open_to(outlook(record, best_top1, self.contest, self.shift))


def best_final_top1(
    top1: float,
    num_epochs: int,
    complete: Sequence[Course],
    *,
    num_params: int | None = None,
    min_courses: int = MIN_COURSES,
    level: float = LEVEL,
) -> float:
    """Return the best top1 that training may end with, by what became of others.

    The logarithm of the error (100 - top1) after the last epoch is regressed on that of the error so far, and on that
    of the number of parameters where it is given; what is returned is the end of the one-sided prediction interval of
    one more network (Draper and Smith 1998, sec. 3.2 and 5.1). It is wide where there are few courses, and where they
    are unlike this one.

    Args:
        top1: So far.
        num_epochs: After which it was reached; 0: before training.
        complete: Of other networks, as long as this one's will be.
        num_params: Of this network. Before training it says more than top1 does, later nothing more.
        min_courses: With fewer nothing is known: 100.
        level: Of the interval. It and `min_courses` were chosen on recorded studies (`benchmarks/early_stopping.py`).
    """
    if (count := len(complete)) < min_courses:
        return 100.0
    columns = [[_log_error(top1), *(_log_error(other.top1[num_epochs]) for other in complete)]]
    if num_params is not None:
        columns.append([math.log(num_params), *(math.log(other.num_params) for other in complete)])
    (this_F, *known_NF), last_N = np.transpose(columns), np.array([_log_error(other.top1[-1]) for other in complete])
    mean_F = np.mean(known_NF, axis=0)
    deviation_F, deviations_NF = this_F - mean_F, known_NF - mean_F
    inverse_FF = np.linalg.pinv(deviations_NF.T @ deviations_NF, hermitian=True)  # of equal errors the slope is 0
    slopes_F = inverse_FF @ deviations_NF.T @ last_N
    residuals_N = last_N - last_N.mean() - deviations_NF @ slopes_F
    num_free = count - 1 - len(columns)
    variance = residuals_N @ residuals_N / num_free * (1 + 1 / count + deviation_F @ inverse_FF @ deviation_F)
    least = last_N.mean() + deviation_F @ slopes_F - student.ppf(level, num_free) * math.sqrt(variance)
    return 100.0 - math.exp(least)


def _log_error(top1: float) -> float:
    return math.log(max(100.0 - top1, 0.1))  # of none wrong there is no logarithm


def outlook(record: TrialRecord, best_top1: float, contest: Contest, shift: float) -> Outlook:
    """Return what is to be expected of a candidate that was not trained to the end.

    Args:
        record: With its untrained network, and its latency if that was measured.
        best_top1: That it may reach.
        contest: For the unpruned network's top1.
        shift: By how much training may change its latency, relatively.
    """
    metrics, low, high = record.metrics, {}, {"top1": best_top1}
    for name in _SIZES:
        if name in metrics:
            low[name] = high[name] = metrics[name]
    if record.latency is not None and not record.latency.is_noisy:
        ratio = record.latency.latency_ratio
        for name in _LATENCIES:
            if name in metrics:
                low[name] = metrics[name] * ratio.low / ratio.estimate * (1 - shift)
                high[name] = metrics[name] * ratio.high / ratio.estimate * (1 + shift)
    if (unpruned := contest.baselines.get("baseline", {}).get("top1")) is not None:
        low["top1_drop"] = unpruned - best_top1
    return Outlook(low=low, high=high)


def _cautious(row: Row) -> dict[str, float]:
    """Return what a trial on the front surely has: a lucky measurement is to keep nobody out."""
    metrics, latency = dict(row.metrics), row.record.latency
    if latency is not None and latency.is_noisy:
        ratio = latency.latency_ratio
        metrics |= {name: metrics[name] * ratio.high / ratio.estimate for name in _LATENCIES if name in metrics}
    return metrics


def highest_top1(results: StudyResults) -> float:
    """Return the top1 of the unpruned network or of the best trial, and what another seed might add to it."""
    known = [results.baselines.get(UNPRUNED), *results.trials]
    trained = [record for record in known if record is not None and record.is_usable and "top1" in record.metrics]
    if not trained:
        return 100.0
    best = max(trained, key=lambda record: record.metrics["top1"])
    return min(100.0, best.metrics["top1"] + _NUM_SPREADS * seed_spread(results.trials, best))


def seed_spread(trials: Sequence[TrialRecord], best: TrialRecord) -> float:
    """Return the standard deviation of top1 from seed to seed, in points.

    It is that of the study's replicates, pooled; where there are too few, the error with which so many validation
    images tell the best network's top1.
    """
    groups = defaultdict(list)
    for trial in trials:
        if trial.is_usable and trial.is_trained:
            groups[trial.replicate_of or trial.label].append(trial.metrics["top1"])
    num_free = sum(len(group) - 1 for group in groups.values())
    if num_free >= _MIN_DEGREES_OF_FREEDOM:
        squares = sum((top1 - fmean(group)) ** 2 for group in groups.values() for top1 in group)
        return math.sqrt(squares / num_free)
    assert best.compressed is not None
    return standard_error(best.metrics["top1"], best.compressed.validation.num_images)


def standard_error(top1: float, num_images: int) -> float:
    """Return the binomial standard error of a top1, in points, with one more image right and one more wrong."""
    right = (top1 / 100 * num_images + 1) / (num_images + 2)
    return 100 * math.sqrt(right * (1 - right) / (num_images + 2))


def complete_courses(results: StudyResults, num_epochs: int) -> tuple[Course, ...]:
    """Return the courses of candidates that were trained to their end, after so many epochs; each network's once."""
    records = [results.baselines.get(OFF_THE_SHELF), *results.trials]
    courses = {}
    for record in records:
        if record is not None and record.compressed is not None and record.is_usable and record.is_trained:
            courses[record.compressed.checkpoint] = course_of(record)
    return tuple(course for course in courses.values() if len(course.top1) == 1 + num_epochs)


def course_of(record: TrialRecord) -> Course:
    """Return the course of a record that has a network."""
    assert record.compressed is not None
    return Course(record.compressed.num_params, tuple(epoch.top1 for epoch in record.compressed.epochs))


def is_audited(record: TrialRecord) -> bool:
    """Tell whether a candidate, if it is gated, is trained all the same: one in ten, whoever asks, and whenever."""
    return random.Random(f"{record.seed} {record.label}").random() < _AUDITED_SHARE
