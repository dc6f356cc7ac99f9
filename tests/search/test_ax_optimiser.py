"""What Ax is told and what it answers."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from secateur.errors import SearchError
from secateur.results import TrialRecord
from secateur.search.goal import Goal
from secateur.search.quiet import quiet
from secateur.search.sampling import sobol_point
from secateur.search.space import ChoiceParameter, FloatParameter, IntParameter, Space
from tests.factories import make_record
from tests.search.synthetic import BASELINES, make_search_study

SPACE = Space(
    (
        FloatParameter(name="filter_pruner_70.desired_sparsity", low=0.0, high=0.99),
        IntParameter(name="blocks.layer 1/x", low=5, high=9),
        ChoiceParameter(name="group", values=("Filters", "Channels", "Rows")),
        ChoiceParameter(name="bits", values=(2, 4, 8)),
        IntParameter(name="epochs", low=1, high=100, is_log=True),
        FloatParameter(name="lr", low=1e-4, high=1.0, is_log=True),
    ),
    {"fixed": "value"},
)
LINE = Space((FloatParameter(name="x", low=0.0, high=1.0),))


@pytest.fixture(scope="module")
def ax() -> ModuleType:
    with quiet():
        return importlib.import_module("secateur.search.ax_optimiser")


def make_goal(constraints: Sequence[str] = ("top1 >= baseline - 1.0",), **objectives: str) -> Goal:
    study = make_search_study(
        constraints=constraints, objectives=objectives or {"latency_ratio": "minimize", "top1": "maximize"}
    )
    return Goal.from_search(study.search, BASELINES)


def make_trials(num_trials: int, space: Space = SPACE) -> list[TrialRecord]:
    """Return finished trials at quasi-random points; the first parameter is what matters."""
    records = []
    for index in range(num_trials):
        parameters = sobol_point(space, 0, index)
        x = float(next(iter(parameters.values())))
        records.append(make_record(index, parameters=parameters, latency_ratio=1 - 0.5 * x, top1=90.5 - 5 * x**2))
    return records


def reload(optimiser: Any, folder: Path) -> Any:
    """Return Ax's own client of what was stored."""
    path = folder / "ax.json"
    path.write_text(json.dumps(optimiser.to_json(), allow_nan=False))
    with quiet():
        return importlib.import_module("ax").Client.load_from_json_file(str(path))


def test_proposals_are_new_different_and_in_the_space(ax: ModuleType) -> None:
    records = make_trials(6)
    optimiser = ax.AxOptimiser("study", SPACE, make_goal(), 0, records)
    points = [*optimiser.ask(2), *optimiser.ask(1)]
    assert points
    assert all(point in SPACE for point in points)
    keys = [tuple(parameters.items()) for parameters in [*(r.parameters for r in records), *points]]
    assert len(set(keys)) == len(keys)


def test_same_records_and_seed_give_the_same_proposals(ax: ModuleType) -> None:
    def ask(seed: int) -> Any:
        return ax.AxOptimiser("study", LINE, make_goal(), seed, make_trials(5, LINE)).ask(2)

    assert ask(1) == ask(1)
    assert ask(1) != ask(2)


@pytest.mark.parametrize(
    ("objectives", "constraints"),
    [
        pytest.param({"top1": "maximize"}, ["top1 >= baseline - 1.0"], id="single objective, agrees"),
        pytest.param({"top1": "maximize"}, ["top1 <= 89.5", "latency_ratio <= 0.9"], id="single objective, opposes"),
        pytest.param({}, ["top1 >= 88", "top1 >= 89", "latency_ratio <= 0.9"], id="thresholds"),
        pytest.param({}, ["latency_ratio >= 0.6", "top1 <= 90"], id="two objectives, oppose"),
        pytest.param({}, ["macs <= 1", "top1_drop <= -5.0"], id="nothing is feasible"),
        pytest.param({"latency_ratio": "minimize", "loss": "minimize"}, ["top1 >= 99"], id="no reference"),
        pytest.param({"num_params": "minimize", "top1": "maximize", "latency_ratio": "minimize"}, [], id="constant"),
    ],
)
def test_every_kind_of_constraint_works(ax: ModuleType, objectives: dict[str, str], constraints: list[str]) -> None:
    optimiser = ax.AxOptimiser("study", LINE, make_goal(constraints, **objectives), 0, make_trials(5, LINE))
    assert len(optimiser.ask(1)) == 1


def test_opposing_bound_on_a_single_objective_is_kept(ax: ModuleType) -> None:
    optimiser = ax.AxOptimiser(
        "study", LINE, make_goal(["latency_ratio >= 0.8"], latency_ratio="minimize"), 0, make_trials(8, LINE)
    )
    ((x,),) = [point.values() for point in optimiser.ask(1)]
    assert x == pytest.approx(0.4, abs=0.1)  # where the ratio, 1 - x / 2, is 0.8


def test_states_of_trials_reach_ax_and_its_json(ax: ModuleType, tmp_path: Path) -> None:
    records = [
        *make_trials(3),
        make_record(3, parameters=sobol_point(SPACE, 0, 3), state="proposed", top1=None, latency_ratio=None),
        make_record(4, parameters=sobol_point(SPACE, 0, 4), state="failed"),
        make_record(5, parameters=sobol_point(SPACE, 0, 5), half_width=float("nan")),
        make_record(6, parameters={"another": 0.5}),
    ]
    optimiser = ax.AxOptimiser("study", SPACE, make_goal(), 0, records)
    optimiser.tell_pending(sobol_point(SPACE, 0, 7))
    client = reload(optimiser, tmp_path)
    with quiet():
        summary = client.summarize()
    statuses = ["COMPLETED"] * 3 + ["RUNNING", "ABANDONED", "ABANDONED", "RUNNING"]
    assert summary["trial_status"].tolist() == statuses
    known = summary.loc[summary["trial_status"] == "COMPLETED", ["m_latency_ratio", "m_top1"]]
    assert known["m_top1"].tolist() == pytest.approx([record.metrics["top1"] for record in records[:3]])
    assert not known.isna().any(axis=None)


def test_a_repeat_is_told_with_what_is_known_of_its_network(ax: ModuleType, tmp_path: Path) -> None:
    records = make_trials(3, LINE)
    optimiser = ax.AxOptimiser("study", LINE, make_goal(), 0, records)
    one, other = optimiser.ask(2)
    optimiser.tell_repeat(one, records[1])
    optimiser.tell_repeat(other, make_record(9, state="proposed", top1=None, latency_ratio=None))
    with quiet():
        summary = reload(optimiser, tmp_path).summarize()
    assert summary["trial_status"].tolist() == ["COMPLETED"] * 4 + ["ABANDONED"]
    assert summary["m_top1"].tolist()[3] == pytest.approx(records[1].metrics["top1"])


def test_replicates_are_trials_of_their_own(ax: ModuleType, tmp_path: Path) -> None:
    records = make_trials(4, LINE)
    again = make_record(4, parameters=records[2].parameters, top1=80.0, replicate_of="2")
    goal = replace(make_goal(), top1_error=0.3)
    optimiser = ax.AxOptimiser("study", LINE, goal, 0, [*records, again])
    assert len(optimiser.ask(1)) == 1
    with quiet():
        summary = reload(optimiser, tmp_path).summarize()
    assert summary["m_top1"].tolist()[2:5:2] == pytest.approx([records[2].metrics["top1"], 80.0])


def test_constraints_hold_with_many_trials_pending(ax: ModuleType) -> None:
    pending = [
        make_record(i, parameters={"x": i / 20}, state="proposed", top1=None, latency_ratio=None) for i in range(8, 16)
    ]
    records = [*make_trials(8, LINE), *pending]
    points = ax.AxOptimiser("study", LINE, make_goal(), 0, records).ask(2)
    assert len(points) == 2
    assert all(abs(float(point["x"]) - i / 20) > 1e-6 for point in points for i in range(8, 16))


def test_finished_space_is_an_error(ax: ModuleType) -> None:
    space = Space((IntParameter(name="x", low=0, high=3),))
    records = [make_record(i, parameters={"x": i % 4}, latency_ratio=0.9, top1=89 - i) for i in range(6)]
    optimiser = ax.AxOptimiser("study", space, make_goal(), 0, records)
    with pytest.raises(SearchError, match=r"^SearchSpaceExhausted: "):
        optimiser.ask(1)


def test_nothing_known_is_an_error(ax: ModuleType) -> None:
    with pytest.raises(SearchError, match=r"^\w+: "):
        ax.AxOptimiser("study", SPACE, make_goal(), 0, []).ask(1)


def test_torch_keeps_its_threads(ax: ModuleType) -> None:
    torch = importlib.import_module("torch")
    before = torch.get_num_threads()
    optimiser = ax.AxOptimiser("study", LINE, make_goal(), 0, make_trials(3, LINE))
    optimiser.ask(1)
    assert torch.get_num_threads() == before


def test_no_kernel_is_compiled(ax: ModuleType) -> None:
    ax.AxOptimiser("study", LINE, make_goal(), 0, make_trials(3, LINE)).ask(1)
    assert importlib.import_module("botorch.acquisition.multi_objective.logei")._C is None


def test_nothing_is_said(ax: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    optimiser = ax.AxOptimiser("study", SPACE, make_goal(), 0, make_trials(3))
    optimiser.ask(1)
    assert not re.search(r"\S", "".join(capfd.readouterr()))
