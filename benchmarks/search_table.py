"""A table of networks of the real problem: what each is worth, so that searches can be compared in no time.

The problem is the dissertation's without retraining: four sparsities of ResNet56, the latency ratio on the device, top1
once batch normalisation is recalibrated. `benchmarks/search.py --record` fills a table.
"""

from __future__ import annotations

import csv
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from recovery import MODEL, SPARSITIES, Bench, cpu_name
from torch import nn

from secateur import resources
from secateur.benchmark import measure
from secateur.config import ParameterValue, Study, load_device, load_study
from secateur.export import export_onnx
from secateur.methods.ranking import count_removed
from secateur.models import create_model
from secateur.results import LatencyReport
from secateur.schedule import Schedule, load_schedule
from secateur.search.sampling import sobol_point
from secateur.search.space import Space
from secateur.training import recalibrate_bn

STUDY = "schedules/studies/dissertation-multi.yaml"
"""Space, schedule and objectives of the problem."""
DEVICE = "cpu-f32-1thread"
SHORT = {"num_processes": 1, "num_warmups": 3, "min_rounds": 30, "max_duration_s": 0.2, "target_half_width": 0.02}
"""How the device's profile is changed: a table wants many networks. Of one process, the interval knows the noise of the
rounds, and nothing of how compilations differ."""
VALIDATION_IMAGES = 500
RECALIBRATION_IMAGES = 256
DECIMALS = 4
"""Of a recorded sparsity; what is pruned is what is recorded."""

Point = Mapping[str, ParameterValue]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One network."""

    index: int
    """Of its point in the quasi-random sequence."""
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
    """Of the recalibrated network, in percent of the validation images."""


GROUPS = [name.split(".")[0].removeprefix("filter_pruner_") for name in SPARSITIES]
FIGURES = ["latency_ratio", "low", "high", "standard_error", "num_rounds", "top1"]
COLUMNS = ["index", *(f"sparsity_{group}" for group in GROUPS), *(f"kept_{group}" for group in GROUPS), *FIGURES]


@dataclass(frozen=True)
class Problem:
    """The search space, and how many filters of each group a point of it leaves."""

    study: Study

    @classmethod
    def load(cls) -> Problem:
        """Read the study."""
        return cls(load_study(resources.find(STUDY), ["training.epochs=0"]))

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
    def num_filters(self) -> tuple[int, ...]:
        """Of each convolution of a group before pruning, in the order of `SPARSITIES`."""
        model = create_model(MODEL, 10)
        first_weights = [self.schedule.document["pruners"][name.split(".")[0]]["weights"][0] for name in SPARSITIES]
        layers = [model.get_submodule(name.removeprefix("module.").removesuffix(".weight")) for name in first_weights]
        return tuple(layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d))

    def kept(self, point: Point) -> tuple[int, ...]:
        """Return how many filters of each convolution a point leaves."""
        sparsities = (float(point[name]) for name in SPARSITIES)
        return tuple(n - count_removed(n, s) for n, s in zip(self.num_filters, sparsities, strict=True))

    def quasi_random(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield the points of the Sobol sequence, rounded, with their numbers."""
        for index in itertools.count():
            point = sobol_point(self.space, self.study.search.seed, index)
            yield index, {name: round(float(point[name]), DECIMALS) for name in SPARSITIES}


class Table:
    """A CSV file of entries, to which each batch is appended; what it was recorded with stands in a JSON beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries = _read(path) if path.exists() else []

    @property
    def setting(self) -> dict[str, object] | None:
        """What the table was recorded with; None as long as it is empty."""
        beside = self._path.with_suffix(".json")
        return json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else None

    def begin(self, setting: Mapping[str, object]) -> None:
        """Write the setting down, or check that it is the one the table was begun with."""
        if self.setting is None:
            self._path.with_suffix(".json").write_text(json.dumps(setting, indent=1) + "\n", encoding="utf-8")
        elif self.setting != setting:
            raise SystemExit(f"{self._path} was begun with {self.setting}, not {setting}: name another file.")

    def append(self, entries: Sequence[Entry]) -> None:
        """Write a batch down."""
        is_new = not self._path.exists()
        with self._path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(COLUMNS)
            for entry in entries:
                figures = [getattr(entry, name) for name in FIGURES]
                writer.writerow([entry.index, *entry.sparsities, *entry.kept, *figures])
        self.entries += entries


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


def record(table: Table, problem: Problem, bench: Bench, num_networks: int, batch_size: int) -> None:
    """Append networks until the table has so many; all are different, and a batch is measured together.

    Args:
        table: May hold some already.
        problem: Says which points.
        bench: The unpruned network and its images.
        num_networks: In the end.
        batch_size: The larger, the less of the time goes into starting processes; one is lost when this is killed.
    """
    device = load_device(DEVICE).model_copy(update=SHORT)
    module, num_validated = bench.dense.eval(), len(bench.validation)
    setting = {"study": STUDY, "device": device.model_dump(exclude_defaults=True), "cpu": cpu_name()}
    images = {"validation_images": num_validated, "recalibration_images": RECALIBRATION_IMAGES}
    table.begin({**setting, **images, "unpruned_top1": bench.scores(module)["top1"]})
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder, "unpruned.onnx")
        reference.write_bytes(export_onnx(module, bench.splits.input_size, num_checks=0))
        while (missing := num_networks - len(table.entries)) > 0:
            started, cpu_s = time.monotonic(), _cpu_s()
            points = _new_points(table, problem, min(batch_size, missing))
            paths = [Path(folder, f"{index}.onnx") for index, _ in points]
            top1 = [_make(bench, point, path) for (_, point), path in zip(points, paths, strict=True)]
            reports = measure(paths, reference, device, seed=points[0][0])
            found = zip(points, top1, reports, strict=True)
            entries = [_entry(problem, *p, t, r) for p, t, r in found if isinstance(r, LatencyReport)]
            if not entries:
                raise SystemExit(f"None of {len(reports)} networks could be measured: {reports[0]}")
            table.append(entries)
            for path in paths:
                path.unlink()
            spent = [(time.monotonic() - started) / len(points), (_cpu_s() - cpu_s) / len(points)]
            print("{} networks; {:.2f} s each, {:.2f} s of CPU".format(len(table.entries), *spent), flush=True)


def _cpu_s() -> float:
    """Return the CPU seconds of this process, and of those it has waited for: torch's and the measurement's."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _make(bench: Bench, point: Point, path: Path) -> float:
    """Prune and recalibrate a network, export it, and return its top1."""
    module = bench.prune(bench.schedule.with_parameters(point))
    recalibrate_bn(module, bench.recalibration, bench.splits.normalize, num_images=RECALIBRATION_IMAGES)
    path.write_bytes(export_onnx(module.eval(), bench.splits.input_size, num_checks=0))
    return float(bench.scores(module)["top1"])


def _new_points(table: Table, problem: Problem, count: int) -> list[tuple[int, dict[str, float]]]:
    """Return the next points that leave a network the table does not have."""
    seen = {entry.kept for entry in table.entries}
    points: list[tuple[int, dict[str, float]]] = []
    for index, point in problem.quasi_random():
        if (kept := problem.kept(point)) not in seen:
            seen.add(kept)
            points.append((index, point))
        if len(points) == count:
            break
    return points


def _entry(problem: Problem, index: int, point: Point, top1: float, report: LatencyReport) -> Entry:
    ratio = report.latency_ratio
    return Entry(
        index=index,
        sparsities=tuple(float(point[name]) for name in SPARSITIES),
        kept=problem.kept(point),
        latency_ratio=round(ratio.estimate, 5),
        low=round(ratio.low, 5),
        high=round(ratio.high, 5),
        standard_error=round(ratio.standard_error, 6),
        num_rounds=report.num_rounds,
        top1=round(top1, 2),
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
