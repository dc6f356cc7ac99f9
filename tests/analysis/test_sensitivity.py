"""A sensitivity analysis: its figures are those of pruned networks, and none is computed twice."""

from __future__ import annotations

import csv
import json
import re
import signal
from pathlib import Path

import pytest
import torch
import yaml

from secateur.config.located import Located
from secateur.models import create_model
from secateur.pruning import ScheduleEngine
from secateur.report.sensitivity import COLUMNS, render_csv, render_html, render_png
from secateur.results import Interval
from secateur.schedule import parse_schedule
from secateur.sensitivity_results import Sensitivity
from secateur.thinning import count_params
from secateur.training import evaluate
from tests.analysis.test_grouping import make_analysis, make_unit
from tests.factories import make_device
from tests.flows.tiny import DEVICE, NUM_CLASSES, SIZE, images, network
from tests.runs import Ended, Runs

MODEL = "python:tests.flows.tiny:network"
DATASET = "python:tests.flows.tiny:images"
COMMAND = (
    "sensitivity",
    MODEL,
    "--dataset",
    DATASET,
    "--weights",
    "w.pt",
    "--store",
    "store",
    "--device",
    "quick.yaml",
)
SPARSITIES = ("--sparsity", "0.6", "--sparsity", "0.3", "--sparsity", "0.65", "--sparsity", "0.1")
UNITS = [["conv1", "blocks.0.conv2", "blocks.1.conv2"], ["blocks.0.conv1"], ["blocks.1.conv1"]]


def begin(folder: Path) -> Path:
    torch.manual_seed(3)
    torch.save(network(NUM_CLASSES).state_dict(), folder / "w.pt")
    (folder / "quick.yaml").write_text(yaml.safe_dump(DEVICE))
    return folder


def evaluated(ended: Ended) -> int:
    return sum(event.startswith("after put cache/sensitivity/quality") for event in ended.events)


@pytest.fixture(scope="module")
def reference(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    folder = begin(tmp_path_factory.mktemp("reference"))
    ended = runs.run(folder, *COMMAND, *SPARSITIES)
    assert ended.code == 0, ended.err
    return folder, ended


def read(folder: Path) -> Sensitivity:
    return Sensitivity.model_validate_json((folder / "runs" / "network" / "sensitivity.json").read_text())


def test_every_structure_is_pruned_alone(reference: tuple[Path, Ended]) -> None:
    folder, ended = reference
    analysis = read(folder)
    assert [list(unit.layers) for unit in analysis.units] == UNITS
    assert analysis.left_out == {}
    assert [point.num_removed for point in analysis.units[0].points] == [0, 2, 4, 5]
    assert evaluated(ended) == ended.measured == 3 * 4
    for unit in analysis.units:
        assert unit.points[0].top1 == analysis.unpruned.top1
        assert all(point.latency_ratio is not None for point in unit.points)


def test_the_figures_are_those_of_the_thinned_network(reference: tuple[Path, Ended]) -> None:
    folder, _ = reference
    module = create_model(MODEL, NUM_CLASSES)
    module.load_state_dict(torch.load(folder / "w.pt", weights_only=True))
    document = {
        "version": 1,
        "pruners": {
            "p": {
                "class": "L1RankedStructureParameterPruner",
                "group_type": "Filters",
                "desired_sparsity": 0.6,
                "weights": ["blocks.0.conv1.weight"],
            }
        },
        "extensions": {"t": {"class": "FilterRemover", "thinning_func_str": "remove_filters"}},
        "policies": [
            {"pruner": {"instance_name": "p"}, "epochs": [0]},
            {"extension": {"instance_name": "t"}, "epochs": [0]},
        ],
    }
    schedule = parse_schedule(Located(value=document, source="test"))
    ScheduleEngine(module, schedule, torch.zeros(1, 3, SIZE, SIZE), base_lr=0.1, num_epochs=0).prune_before_training()
    scores = evaluate(module, images().validation, images().normalize)
    point = next(point for point in read(folder).units[1].points if point.sparsity == 0.6)
    assert (point.top1, point.num_params) == (scores.top1, count_params(module))
    assert point.loss == pytest.approx(scores.loss)


def test_the_same_command_again_computes_nothing(runs: Runs, reference: tuple[Path, Ended]) -> None:
    folder, _ = reference
    before = read(folder)
    again = runs.run(folder, *COMMAND, *SPARSITIES)
    assert (again.code, evaluated(again), again.measured) == (0, 0, 0)
    assert read(folder) == before


def test_killed_in_the_middle_it_goes_on(runs: Runs, reference: tuple[Path, Ended], tmp_path: Path) -> None:
    folder, whole = begin(tmp_path), reference[1]
    middle = next(i for i, event in enumerate(whole.events, 1) if event.startswith("before runner measure")) + 1
    killed = runs.run(folder, *COMMAND, *SPARSITIES, kill_at=middle)
    assert killed.code == -signal.SIGKILL
    rest = runs.run(folder, *COMMAND, *SPARSITIES)
    assert rest.code == 0, rest.err
    assert evaluated(killed) > 0
    assert evaluated(killed) + evaluated(rest) == evaluated(whole)
    assert killed.measured + rest.measured == whole.measured
    assert [u.points[1].top1 for u in read(folder).units] == [u.points[1].top1 for u in read(reference[0]).units]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sparsity", "1.5"), "--sparsity: expected fractions between 0 and 1, such as 0.5, got 1.5"),
        (("--dataset", "digit"), "--dataset: .*there is no 'digit'. Did you mean 'digits'"),
        (("--dataset", "imagefolder:nowhere"), "--dataset: .*nowhere"),
        (("--weights", "x.pt"), "--weights: .*x.pt: there is no such file"),
        (("--device", "cpuu"), "--device: .*'cpuu'. Did you mean 'cpu'"),
        (("--set", "trainig.epochs=1"), "--set trainig.epochs=1: unknown key 'trainig'. Did you mean 'training'"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_bad_input_costs_no_work(runs: Runs, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    ended = runs.run(begin(tmp_path), *COMMAND, *arguments)
    assert ended.code == 2
    assert re.search(message, ended.err), ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "runs").exists()


def test_an_unknown_model_and_wrong_weights_are_told_together(runs: Runs, tmp_path: Path) -> None:
    begin(tmp_path)
    ended = runs.run(tmp_path, "groups", "resnet20_cifer", "--dataset", "digit", "--weights", "w.npz")
    assert ended.code == 2
    assert "MODEL: unknown model 'resnet20_cifer'. Did you mean 'resnet20_cifar'?" in ended.err
    assert "--dataset: " in ended.err


def test_json_is_the_analysis(runs: Runs, reference: tuple[Path, Ended]) -> None:
    ended = runs.run(reference[0], *COMMAND, *SPARSITIES, "--json")
    document = json.loads(ended.out)
    assert document.pop("out") == "runs/network"
    assert Sensitivity.model_validate(document) == read(reference[0])


@pytest.fixture
def measured() -> Sensitivity:
    analysis = make_analysis(make_unit("a", drops=[1.0, 2.5]), make_unit("<b>", "c", drops=[10.0, 60.0]))
    ratio = Interval(estimate=0.9, low=0.89, high=0.92, standard_error=0.01)
    units = tuple(
        unit.model_copy(update={"points": tuple(p.model_copy(update={"latency_ratio": ratio}) for p in unit.points)})
        for unit in analysis.units
    )
    return analysis.model_copy(update={"units": units, "device": make_device(), "left_out": {"d": "it is odd"}})


def test_csv(measured: Sensitivity) -> None:
    rows = list(csv.DictReader(render_csv(measured).splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 4
    assert rows[3]["layers"] == "<b> c"
    assert (float(rows[3]["top1_drop"]), float(rows[3]["latency_ratio"])) == (60.0, 0.9)
    assert next(csv.DictReader(render_csv(make_analysis(make_unit("a", drops=[1.0]))).splitlines()))["is_noisy"] == ""


@pytest.mark.parametrize("has_device", [True, False], ids=["with latencies", "without"])
def test_page_and_picture(measured: Sensitivity, has_device: bool) -> None:
    analysis = measured if has_device else make_analysis(make_unit("a", drops=[0.0, 0.0]))
    page = render_html(analysis)
    assert ('id="latency"' in page) == has_device
    assert "<b>" not in page.split("<main>")[1].split("<footer>")[0].replace("\\u003cb>", "")
    assert render_png(analysis).startswith(b"\x89PNG")
    if has_device:
        assert "it is odd" in page
        assert "a bears pruning best (it costs 1.75 points of top1 on average), &lt;b&gt; (+1) worst (35.00)." in page
