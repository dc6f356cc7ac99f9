"""What a report says, worked out once from the records; the page, the Markdown and the plots only write it down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from secateur.config import Constraint, Study
from secateur.leaderboard import Row, leaderboard
from secateur.report.formats import parameter_text, short_names
from secateur.results import BASELINES, UNPRUNED, StudyResults, TrialRecord, metrics_of

Kind = Literal[
    "front",
    "feasible",
    "infeasible",
    "gated",
    "stopped",
    "noisy",
    "suspect",
    "failed",
    "pending",
    "unpruned",
    "off_the_shelf",
    "champion",
]

KINDS: dict[Kind, str] = {
    "front": "on the front",
    "feasible": "completed",
    "infeasible": "constraints not met",
    "gated": "gated: too slow to be trained",
    "stopped": "training stopped early",
    "noisy": "noisy measurement",
    "suspect": "predicts one class only",
    "failed": "failed",
    "pending": "not finished",
    "unpruned": "unpruned",
    "off_the_shelf": "off the shelf",
    "champion": "champion",
}
"""What a record is shown as, in the order of the legend."""

_NOT_ADAPTIVE = {"sobol", "random", "grid"}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A study's results, digested."""

    study: Study
    baselines: tuple[Row, ...]
    """Unpruned first."""
    rows: tuple[Row, ...]
    """Every trial, best first."""
    best: Row | None
    """The first feasible trial; None if there is none yet."""
    champion: Row | None
    """None before the first promotion."""
    names: Mapping[str, str]
    """Parameter -> what it is called where there is little room."""
    bounds: Mapping[str, float | None]
    """Constraint as the study writes it -> its number; None while the baseline is not known."""

    @property
    def objectives(self) -> Mapping[str, Literal["minimize", "maximize"]]:
        """Metric -> direction."""
        return self.study.search.objectives

    @property
    def words(self) -> Mapping[Kind, str]:
        """What a record is shown as, in words; with one objective the front is the best trial."""
        return KINDS if len(self.objectives) > 1 else {**KINDS, "front": "best"}

    def settings(self, record: TrialRecord) -> dict[str, str]:
        """Return a record's parameters as they are shown: short name -> value."""
        return {self.names.get(name, name): parameter_text(value) for name, value in record.parameters.items()}

    @property
    def records(self) -> tuple[TrialRecord, ...]:
        """All records, baselines first."""
        return tuple(row.record for row in (*self.baselines, *self.rows))

    @property
    def in_order(self) -> list[Row]:
        """Every trial, by number."""
        return sorted(self.rows, key=lambda row: row.record.index)

    @property
    def usable(self) -> list[Row]:
        """The trials whose figures may be compared, best first."""
        return [row for row in self.rows if row.record.is_usable]

    @property
    def sampled(self) -> list[Row]:
        """The usable trials that no earlier result had a say in: an adaptive sample biases correlations and means."""
        return [row for row in self.usable if row.record.method.partition(" ")[0] in _NOT_ADAPTIVE]

    @property
    def compared(self) -> list[Row]:
        """What is compared closely: the known baselines, the best trial, and the champion."""
        return [*self.baselines, *(row for row in (self.best, self.champion) if row is not None)]

    def baseline(self, label: str) -> Row | None:
        """Return a baseline's row, if it is known."""
        return next((row for row in self.baselines if row.record.label == label), None)


def gather(results: StudyResults) -> Facts:
    """Digest the records of a study."""
    rows = tuple(leaderboard(results))
    unpruned = results.baselines.get(UNPRUNED)
    baselines = [results.baselines[name] for name in BASELINES if name in results.baselines]
    study = Study.model_validate(results.study)
    used = (name for record in results.trials for name in record.parameters)

    def apart(record: TrialRecord) -> Row:
        return Row(record=record, metrics=metrics_of(record, unpruned), is_feasible=False, is_on_front=False)

    return Facts(
        study=study,
        baselines=tuple(map(apart, baselines)),
        rows=rows,
        best=next((row for row in rows if row.is_feasible), None),
        champion=None if results.champion is None else apart(results.champion),
        names=short_names(list(dict.fromkeys([*study.search.parameters, *used]))),
        bounds={text: _bound(Constraint.parse(text), results) for text in study.search.constraints},
    )


def _bound(constraint: Constraint, results: StudyResults) -> float | None:
    try:
        return constraint.bound(results.baseline_metrics)
    except KeyError:
        return None


def kind_of(row: Row) -> Kind:
    """Tell what a row is shown as; a doubtful measurement is shown as such even on the front."""
    record = row.record
    if record.method == "baseline":
        return "unpruned" if record.label == UNPRUNED else "off_the_shelf"
    if not record.is_trial:
        return "champion"
    if record.state in {"proposed", "compressed"}:
        return "pending"
    if record.state in ("noisy", "suspect", "failed", "gated", "stopped"):
        return record.state
    if row.is_on_front:
        return "front"
    return "feasible" if row.is_feasible else "infeasible"


def name_of(row: Row) -> str:
    """Return ``trial 12``, ``unpruned``, ``off the shelf`` or ``champion``."""
    return f"trial {row.record.label}" if row.record.is_trial else KINDS[kind_of(row)]
