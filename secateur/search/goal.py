"""What a search is for, in the terms of Ax: objectives, bounds that are numbers, outcomes with their noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from secateur.config import Constraint, Search
from secateur.errors import SearchError
from secateur.results import TrialRecord, with_top1_drop

Outcome = dict[str, float | tuple[float, float]]
"""Ax's name of a metric -> mean and standard error, or the mean alone: then the model infers the noise."""

_HELPFUL: Mapping[str, Literal["<=", ">="]] = {"minimize": "<=", "maximize": ">="}
"""The direction of a bound that agrees with that of an objective."""

_COSTS = {"latency_ratio", "device_latency_ratio", "total_latency_ms", "latency_ms", "num_params", "macs", "size_bytes"}
"""Metrics in which a pruned network should beat the unpruned one, or is worth nothing."""


_OF_TOP1 = {"top1", "top1_drop"}


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A constraint whose reference is resolved."""

    metric: str
    operator: Literal["<=", ">="]
    value: float

    def holds(self, value: float) -> bool:
        """Tell whether `value` keeps the bound."""
        return value <= self.value if self.operator == "<=" else value >= self.value


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Objectives and constraints of one study."""

    objectives: Mapping[str, Literal["minimize", "maximize"]]
    bounds: tuple[Bound, ...]
    """At most one for each metric and operator: the tightest."""
    unpruned: Mapping[str, float]
    """Metrics of the unpruned network."""
    top1_error: float | None = None
    """Standard error of a trial's top1, in points, from seed to seed; None: the model infers it."""

    @classmethod
    def from_search(cls, search: Search, baselines: Mapping[str, Mapping[str, float]]) -> Goal:
        """Resolve all references to numbers: Ax takes a name for one, and fails when it generates.

        Args:
            search: Of a study.
            baselines: As `StudyResults.baseline_metrics`.

        Raises:
            SearchError: A constraint refers to a baseline, or to a metric of it, that is not known.
        """
        tightest: dict[tuple[str, Literal["<=", ">="]], float] = {}
        for text, constraint in zip(search.constraints, search.parsed_constraints, strict=True):
            key, value = (constraint.metric, constraint.operator), _resolve(text, constraint, baselines)
            tighter = min if constraint.operator == "<=" else max
            tightest[key] = tighter(value, tightest.get(key, value))
        bounds = tuple(Bound(metric=m, operator=o, value=value) for (m, o), value in tightest.items())
        return cls(objectives=search.objectives, bounds=bounds, unpruned=baselines.get("baseline", {}))

    @property
    def needs_top1(self) -> bool:
        """An objective or a bound is about top1."""
        return bool(_OF_TOP1 & {*self.objectives, *(bound.metric for bound in self.bounds)})

    @property
    def ax_objective(self) -> str:
        """The objectives as Ax reads them: ``-m_latency_ratio, m_top1``."""
        return ", ".join(("-" if d == "minimize" else "") + _ax_name(name) for name, d in self.objectives.items())

    def ax_constraints(self, records: Iterable[TrialRecord]) -> list[str]:
        """Return the bounds as Ax reads them, and the reference point of several objectives.

        Ax takes no bound on a single objective, and of several objectives only those that agree with the direction:
        they become the reference point, beyond which nothing counts. An agreeing bound on a single objective does not
        move the optimum and is left out; an opposing one is laid on a copy of the metric.

        Args:
            records: All trials so far.
        """
        if len(self.objectives) == 1:
            bounds = [b for b in self.bounds if b.metric not in self.objectives or self._opposes(b)]
        else:
            bounds = [*self.bounds, *self._reference_point(records)]
        names = [_copy_name(b.metric) if self._opposes(b) else _ax_name(b.metric) for b in bounds]
        return [f"{name} {b.operator} {b.value!r}" for name, b in zip(names, bounds, strict=True)]

    def _reference_point(self, records: Iterable[TrialRecord]) -> list[Bound]:
        """Return a bound for every objective that has none: of a cost the unpruned value, else the worst seen.

        Ax would infer them, but wrongly, or not at all, as long as no trial keeps the other bounds.
        """
        seen = [values for record in records if record.is_trained and (values := self._values(record)) is not None]
        seen = [values for values in seen if all(b.holds(values[b.metric]) for b in self.bounds)] or seen
        bounded = {bound.metric for bound in self.bounds if not self._opposes(bound)}
        reference_point = []
        for name, direction in self.objectives.items():
            worst = [values[name] for values in seen]
            if direction == "minimize" and name in _COSTS and name in self.unpruned:
                worst = [self.unpruned[name]]
            if worst and name not in bounded:
                value = max(worst) if direction == "minimize" else min(worst)
                reference_point.append(Bound(metric=name, operator=_HELPFUL[direction], value=value))
        return reference_point

    def outcome(self, record: TrialRecord) -> Outcome | None:
        """Return what the model learns from a record; None if a metric is absent or no number, or the trial failed.

        Of a gated or stopped candidate it learns what is known, such as latency: Ax fits a model to each metric by
        itself.
        """
        values = self._values(record)
        if values is None:
            return None
        errors = {name: _standard_error(name, record) for name in values}
        errors |= dict.fromkeys(_OF_TOP1 & values.keys(), self.top1_error)
        outcome = {name: mean if (e := errors[name]) is None else (mean, e) for name, mean in values.items()}
        copied = {bound.metric for bound in self.bounds if self._opposes(bound)}
        return {_ax_name(m): o for m, o in outcome.items()} | {
            _copy_name(m): outcome[m] for m in copied & outcome.keys()
        }

    def _values(self, record: TrialRecord) -> dict[str, float] | None:
        """Return the metrics of objectives and bounds; of a network not trained to the end, those that are known."""
        metrics = with_top1_drop(record.metrics, self.unpruned)
        needed = dict.fromkeys([*self.objectives, *(bound.metric for bound in self.bounds)])
        if not record.is_trained:
            needed = {name: None for name in needed if name in metrics}
        values = {name: metrics.get(name, math.nan) for name in needed}
        numbers = [*values.values(), *(_standard_error(name, record) or 0.0 for name in needed)]
        return values if values and record.is_usable and all(map(math.isfinite, numbers)) else None

    def _opposes(self, bound: Bound) -> bool:
        return bound.metric in self.objectives and bound.operator != _HELPFUL[self.objectives[bound.metric]]


def _resolve(text: str, constraint: Constraint, baselines: Mapping[str, Mapping[str, float]]) -> float:
    try:
        return float(constraint.bound(baselines))
    except KeyError:
        known = ", ".join(baselines.get(constraint.reference or "", {})) or "nothing"
        raise SearchError(
            f"Constraint {text!r} needs {constraint.metric!r} of {constraint.reference!r}, of which {known} is known. "
            "Measure the baselines first (`secateur baseline`), or give the bound as a number."
        ) from None


def _standard_error(metric: str, record: TrialRecord) -> float | None:
    """Return the measured noise of latency; of one metric all values have it, or none: Ax takes no mixture."""
    if record.latency is None:
        return None
    ratio = record.latency.latency_ratio
    if metric == "latency_ratio":
        return ratio.standard_error
    if metric == "total_latency_ms":
        return ratio.standard_error / ratio.estimate * record.latency.total_latency_ms.p50
    return None


def _ax_name(metric: str) -> str:
    """Ax parses objectives with sympy, which has meanings of its own for E, N, beta, test."""
    return f"m_{metric}"


def _copy_name(metric: str) -> str:
    return f"copy_{metric}"
