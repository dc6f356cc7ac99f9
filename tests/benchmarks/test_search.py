from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from recovery import SPARSITIES
from search import holm, hypervolume, main
from search_methods import METHODS
from search_table import Entry, Oracle, Problem, Table

from secateur.models import create_model
from secateur.pruning import ScheduleEngine
from secateur.results import KeptFilters, TrialRecord
from secateur.search.sampling import sobol_points
from secateur.store import StudyFiles, open_store
from tests.factories import make_compressed, make_record, make_study


def make_entry(latency_ratio: float, top1: float, kept: tuple[int, ...] = (1, 1, 1, 1), index: int = 0) -> Entry:
    return Entry(
        index=index,
        sparsities=(0.5, 0.25, 0.125, 0.0625),
        kept=kept,
        latency_ratio=latency_ratio,
        low=latency_ratio - 0.01,
        high=latency_ratio + 0.01,
        standard_error=0.005,
        num_rounds=30,
        top1=top1,
    )


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem.load()


@pytest.fixture
def oracle(problem: Problem) -> Oracle:
    """Return a table in which the kept share makes a network slow and good."""
    points = itertools.islice(sobol_points(problem.space, 0), 60)
    counts = [problem.kept(point) for point in points]
    shares = [np.array(kept) / np.array(problem.num_filters) for kept in counts]
    entries = [
        make_entry(0.4 + 0.6 * float(share.mean()), 20 + 70 * float(share.min()), kept, index)
        for index, (share, kept) in enumerate(zip(shares, counts, strict=True))
    ]
    return Oracle(problem, entries, unpruned_top1=90.0)


def test_the_problem_knows_what_pruning_leaves(problem: Problem) -> None:
    model = create_model("resnet56_cifar", 10)
    point = next(sobol_points(problem.space, 0))
    schedule = problem.schedule.with_parameters(point)
    engine = ScheduleEngine(model, schedule, torch.zeros(1, 3, 32, 32), base_lr=0.1, num_epochs=0)
    engine.prune_before_training()
    layers = ["layer1.0.conv1", "layer2.1.conv1", "layer3.2.conv1", "layer3.1.conv1"]
    assert sorted(point) == sorted(SPARSITIES)
    assert problem.num_filters == (16, 32, 64, 64)
    assert problem.kept(point) == tuple(len(engine.kept[layer]) for layer in layers)


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([], 0.0),
        ([(0.5, 60.0)], 0.5 * 50),
        ([(0.5, 60.0), (0.8, 90.0)], 0.5 * 50 + 0.2 * 30),
        ([(0.8, 90.0), (0.5, 60.0), (0.6, 60.0)], 0.5 * 50 + 0.2 * 30),
        ([(0.5, 60.0), (1.2, 95.0), (0.1, 9.0)], 0.5 * 50),
    ],
    ids=["none", "one", "two", "one of three dominated", "slower than unpruned, worse than chance"],
)
def test_hypervolume(points: Sequence[tuple[float, float]], area: float) -> None:
    assert hypervolume([make_entry(*point) for point in points]) == pytest.approx(area)


def test_holm() -> None:
    corrected = holm({("a", 1): 0.01, ("b", 1): 0.04, ("c", 1): 0.03})
    assert corrected == pytest.approx({("a", 1): 0.03, ("b", 1): 0.06, ("c", 1): 0.06})


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    entries = [make_entry(0.5, 60.0, (3, 5, 7, 9)), make_entry(0.7, 80.0, index=1)]
    Table(path).write({"unpruned_top1": 90.0}, entries)
    assert Table(path).entries == entries
    assert Table(path).setting == {"unpruned_top1": 90.0}


def test_the_oracle_takes_the_nearest_entry(oracle: Oracle) -> None:
    point = dict(zip(SPARSITIES, (0.0, 0.0, 0.0, 0.0), strict=True))
    largest = max(oracle.entries, key=lambda entry: sum(np.array(entry.kept) / oracle.problem.num_filters))
    assert oracle.entries[oracle.row(point)] == largest


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_search_repeats_itself(oracle: Oracle, name: str) -> None:
    rows = METHODS[name](oracle, 18, 1)
    assert len(rows) == 18
    assert METHODS[name](oracle, 18, 1) == rows
    assert METHODS[name](oracle, 18, 2) != rows


def test_an_absent_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["search.py", str(tmp_path / "table.csv")])
    with pytest.raises(SystemExit):
        main()
    assert "there is no such table. Record one with --record." in capsys.readouterr().err


def test_a_table_has_what_a_study_measured(
    problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = list(itertools.islice(sobol_points(problem.space, 0), 3))
    files = StudyFiles(open_store(str(tmp_path / "store")), "resnet20-cifar10")
    files.write_study_yaml(yaml.safe_dump(make_study(training={"epochs": 0})))
    for record in (
        make_record("unpruned", latency_ratio=1.0, top1=90.0),
        _record(problem, 0, points[0], top1=71.5, ratio=0.625),
        _record(problem, 1, points[0], top1=71.5, ratio=0.64),  # the same network
        _record(problem, 2, points[1], top1=50.0, ratio=0.5),
        make_record(3, state="failed"),
        _record(problem, 4, points[2], top1=60.0, ratio=0.55, method="bayes"),
    ):
        files.write_record(record)
    table = tmp_path / "table.csv"
    monkeypatch.setattr(sys, "argv", ["search.py", str(table), "--record", str(tmp_path / "store"), "resnet20-cifar10"])
    main()
    first, second = Table(table).entries
    assert "2 networks" in capsys.readouterr().out
    assert (first.index, first.latency_ratio, first.top1) == (0, 0.625, 71.5)
    assert first.low < 0.625 < first.high
    assert first.sparsities == tuple(points[0][name] for name in SPARSITIES)
    assert first.kept == problem.kept(points[0])
    assert (second.index, second.kept) == (2, problem.kept(points[1]))
    setting = Table(table).setting
    assert setting is not None
    assert setting["unpruned_top1"] == 90.0


def _record(
    problem: Problem, index: int, point: dict[str, Any], top1: float, ratio: float, method: str = "sobol"
) -> TrialRecord:
    counts = zip(problem.first_layers, problem.num_filters, problem.kept(point), strict=True)
    layers = {layer: KeptFilters(num_filters=n, kept=tuple(range(kept))) for layer, n, kept in counts}
    compressed = make_compressed(top1, layers=layers)
    return make_record(index, top1=top1, latency_ratio=ratio, parameters=point, compressed=compressed, method=method)
