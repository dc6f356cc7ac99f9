"""A table of networks of the real problem: what each is worth, so that searches can be compared in no time.

The problem is the dissertation's without retraining: four sparsities of ResNet56, the latency ratio on the device, top1
once batch normalisation is recalibrated; or another study with four such sparsities. A table is what a sweep of it
left: `benchmarks/search.py --record`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from recovery import SPARSITIES, cpu_name
from torch import nn

from secateur import resources
from secateur.config import DeviceProfile, ParameterValue, Study, load_study
from secateur.methods.ranking import count_removed
from secateur.models import create_model
from secateur.results import UNPRUNED, LatencyReport, StudyResults, TrialRecord
from secateur.schedule import Schedule, load_schedule
from secateur.search.space import Space

STUDY = "schedules/studies/dissertation-multi.yaml"
"""Space, schedule and objectives of the problem, unless another study is named."""
SEARCHED = ["training.epochs=0", "search.initial_trials=null", "budget.parallel=4"]
"""What is asked of a table takes no time: so no replicates, and quasi-random points as few as in a usual sweep."""

Point = Mapping[str, ParameterValue]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One network."""

    index: int
    """The trial's number."""
    sparsities: tuple[float, ...]
    """Desired ones, in the order of `SPARSITIES`."""
    kept: tuple[int, ...]
    """Filters left in each convolution of a group, in the same order: what makes the network what it is."""
    latency_ratio: float
    low: float
    high: float
    """Of the 95 % interval."""
    standard_error: float
    num_rounds: int
    top1: float
    """In percent of the validation images."""


GROUPS = [name.split(".")[0].removeprefix("filter_pruner_") for name in SPARSITIES]
FIGURES = ["latency_ratio", "low", "high", "standard_error", "num_rounds", "top1"]
COLUMNS = ["index", *(f"sparsity_{group}" for group in GROUPS), *(f"kept_{group}" for group in GROUPS), *FIGURES]


@dataclass(frozen=True)
class Problem:
    """The search space, and how many filters of each group a point of it leaves."""

    study: Study

    @classmethod
    def load(cls, study: str = STUDY) -> Problem:
        """Read the study."""
        return cls(load_study(resources.find(study), SEARCHED))

    @cached_property
    def schedule(self) -> Schedule:
        """The base schedule."""
        return load_schedule(Path(str(self.study.schedule)))

    @cached_property
    def base_values(self) -> dict[str, ParameterValue]:
        """What the schedule itself says."""
        return {name: self.schedule.base_value(name) for name in SPARSITIES}

    @cached_property
    def space(self) -> Space:
        """The search space."""
        return Space.from_search(self.study.search, self.base_values)

    @cached_property
    def first_layers(self) -> tuple[str, ...]:
        """The first convolution of each group, in the order of `SPARSITIES`."""
        pruners = self.schedule.document["pruners"]
        first_weights = (pruners[name.split(".")[0]]["weights"][0] for name in SPARSITIES)
        return tuple(name.removeprefix("module.").removesuffix(".weight") for name in first_weights)

    @cached_property
    def num_filters(self) -> tuple[int, ...]:
        """Of each convolution of a group before pruning, in the order of `SPARSITIES`."""
        model = create_model(self.study.model, 10)
        layers = [model.get_submodule(name) for name in self.first_layers]
        return tuple(layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d))

    def kept(self, point: Point) -> tuple[int, ...]:
        """Return how many filters of each convolution a point leaves."""
        sparsities = (float(point[name]) for name in SPARSITIES)
        return tuple(n - count_removed(n, s) for n, s in zip(self.num_filters, sparsities, strict=True))


class Table:
    """A CSV file of entries; what they were recorded with stands in a JSON beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries = _read(path) if path.exists() else []

    @property
    def setting(self) -> dict[str, Any] | None:
        """What the table was recorded with; None where there is none."""
        beside = self._path.with_suffix(".json")
        return json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else None

    def write(self, setting: Mapping[str, Any], entries: Sequence[Entry]) -> None:
        """Write the table anew."""
        with self._path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for entry in entries:
                figures = [getattr(entry, name) for name in FIGURES]
                writer.writerow([entry.index, *entry.sparsities, *entry.kept, *figures])
        self._path.with_suffix(".json").write_text(json.dumps(setting, indent=1) + "\n", encoding="utf-8")
        self.entries = list(entries)


def _read(path: Path) -> list[Entry]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Entry(
                index=int(row["index"]),
                sparsities=tuple(float(row[f"sparsity_{group}"]) for group in GROUPS),
                kept=tuple(int(row[f"kept_{group}"]) for group in GROUPS),
                num_rounds=int(row["num_rounds"]),
                **{name: float(row[name]) for name in FIGURES if name != "num_rounds"},
            )
            for row in csv.DictReader(file)
        ]


def setting_of(results: StudyResults) -> dict[str, Any]:
    """Return what is worth knowing of how a study's networks were made and measured."""
    unpruned = results.baselines[UNPRUNED]
    assert unpruned.compressed is not None
    assert unpruned.latency is not None
    return {
        "study": results.study["name"],
        "device": DeviceProfile.model_validate(results.study["device"]).model_dump(exclude_defaults=True),
        "training": {name: results.study["training"][name] for name in ("epochs", "recalibration_images")},
        "cpu": cpu_name(),
        "runtime": unpruned.latency.device.runtime,
        "validation_images": unpruned.compressed.validation.num_images,
        "unpruned_top1": unpruned.metrics["top1"],
    }


def entries_of(problem: Problem, results: StudyResults) -> list[Entry]:
    """Return the networks of a study that were measured, each once.

    Only those of quasi-random and random points: what a search had proposed would favour its like, and the expert's own
    point nobody has drawn.
    """
    entries: dict[tuple[int, ...], Entry] = {}
    for trial in results.trials:
        if trial.method in {"sobol", "random"} and trial.is_usable and trial.is_trained and trial.latency is not None:
            entry = _entry(problem, trial, trial.latency)
            entries.setdefault(entry.kept, entry)
    return list(entries.values())


def _entry(problem: Problem, trial: TrialRecord, latency: LatencyReport) -> Entry:
    assert trial.compressed is not None
    ratio, layers = latency.latency_ratio, trial.compressed.layers
    return Entry(
        index=trial.index,
        sparsities=tuple(float(trial.parameters[name]) for name in SPARSITIES),
        kept=tuple(len(layers[name].kept) for name in problem.first_layers),
        latency_ratio=round(ratio.estimate, 5),
        low=round(ratio.low, 5),
        high=round(ratio.high, 5),
        standard_error=round(ratio.standard_error, 6),
        num_rounds=latency.num_rounds,
        top1=round(trial.metrics["top1"], 2),
    )


class Oracle:
    """Answers for every point of the space with the nearest entry of a table."""

    def __init__(self, problem: Problem, entries: Sequence[Entry], unpruned_top1: float) -> None:
        self.problem, self.entries, self.unpruned_top1 = problem, entries, unpruned_top1
        self._kept_share_NP = np.array([entry.kept for entry in entries]) / np.array(problem.num_filters)

    def row(self, point: Point) -> int:
        """Return the number of the entry whose kept share of filters is nearest (Euclid; the first of several)."""
        share_P = np.array(self.problem.kept(point)) / np.array(self.problem.num_filters)
        return int(((self._kept_share_NP - share_P) ** 2).sum(axis=1).argmin())
