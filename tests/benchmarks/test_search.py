from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from recovery import SPARSITIES
from safetensors.torch import save_file
from search import holm, hypervolume, main
from search_methods import METHODS
from search_table import Entry, Oracle, Problem, Table

from secateur.models import create_model
from secateur.pruning import ScheduleEngine
from tests.runs import ROOT


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
    points = [point for (_, point), _ in zip(problem.quasi_random(), range(60), strict=False)]
    counts = [problem.kept(point) for point in points]
    shares = [np.array(kept) / np.array(problem.num_filters) for kept in counts]
    entries = [
        make_entry(0.4 + 0.6 * float(share.mean()), 20 + 70 * float(share.min()), kept, index)
        for index, (share, kept) in enumerate(zip(shares, counts, strict=True))
    ]
    return Oracle(problem, entries, unpruned_top1=90.0)


def test_the_problem_knows_what_pruning_leaves(problem: Problem) -> None:
    model = create_model("resnet56_cifar", 10)
    _, point = next(problem.quasi_random())
    schedule = problem.schedule.with_parameters(point)
    engine = ScheduleEngine(model, schedule, torch.zeros(1, 3, 32, 32), base_lr=0.1, num_epochs=0)
    engine.prune_before_training()
    layers = ["layer1.0.conv1", "layer2.1.conv1", "layer3.2.conv1", "layer3.1.conv1"]
    assert list(point) == SPARSITIES
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


def test_a_table_is_read_as_it_was_written_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    first, second = make_entry(0.5, 60.0, (3, 5, 7, 9)), make_entry(0.7, 80.0, index=1)
    Table(path).append([first])
    Table(path).append([second])
    assert Table(path).entries == [first, second]


def test_a_table_keeps_its_setting(tmp_path: Path) -> None:
    Table(tmp_path / "table.csv").begin({"validation_images": 1000})
    Table(tmp_path / "table.csv").begin({"validation_images": 1000})
    with pytest.raises(SystemExit, match=r"was begun with .*1000.*, not .*500.*: name another file"):
        Table(tmp_path / "table.csv").begin({"validation_images": 500})


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


@pytest.mark.slow
def test_record_goes_on_where_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for part, label in ((part, label) for part in ("train", "test") for label in range(10)):
        folder = tmp_path / "images" / part / f"class{label}"
        folder.mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    weights = tmp_path / "resnet56.safetensors"
    save_file(create_model("resnet56_cifar", 10).state_dict(), weights)
    command = [sys.executable, str(ROOT / "benchmarks/search.py"), str(tmp_path / "table.csv")]
    command += ["--record", str(tmp_path / "images"), str(weights), "--batch", "2", "--validation-images", "8"]
    for count in (2, 3):
        subprocess.run([*command, "--networks", str(count)], check=True, cwd=ROOT)
        entries = Table(tmp_path / "table.csv").entries
        assert [entry.index for entry in entries] == list(range(count))
    assert all(0 < entry.low <= entry.latency_ratio <= entry.high for entry in entries)
    assert all(0 <= entry.top1 <= 100 for entry in entries)
