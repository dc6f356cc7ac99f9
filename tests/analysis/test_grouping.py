"""Groups of like sensitivity: Fisher's breaks against all cuts there are, and what becomes of a network's layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.analysis.grouping import (
    MAX_PARAMETERS,
    Group,
    choose_breaks,
    group_layers,
    grouped_schedule,
    grouped_study,
    natural_breaks,
)
from secateur.config.located import Located
from secateur.results import Scores
from secateur.schedule import parse_schedule
from secateur.sensitivity_results import LayerSensitivity, Sensitivity, SensitivityPoint

TOP1 = 90.0


def make_unit(*layers: str, drops: Sequence[float]) -> LayerSensitivity:
    """Return a unit that costs `drops` points at sparsities 0.1, 0.2, ..."""
    points = tuple(
        SensitivityPoint(
            sparsity=number / 10,
            num_removed=number,
            top1=TOP1 - drop,
            top5=100.0,
            loss=1.0,
            num_params=1000,
            macs=1000,
            latency_ratio=None,
        )
        for number, drop in enumerate(drops, start=1)
    )
    return LayerSensitivity(layers=layers, num_filters=10, points=points)


def make_analysis(*units: LayerSensitivity) -> Sensitivity:
    unpruned = Scores(top1=TOP1, top5=100.0, loss=0.5, num_images=100)
    return Sensitivity(
        model="net",
        dataset="digits",
        unpruned=unpruned,
        num_params=1000,
        macs=1000,
        device=None,
        units=units,
        left_out={},
    )


def scatter(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).map(sorted), st.integers(1, 8))
def test_natural_breaks_are_the_best_of_all_cuts(values: list[int], num_groups: int) -> None:
    num_groups = min(num_groups, len(values))

    def within(breaks: Sequence[int]) -> float:
        return sum(scatter(values[start:end]) for start, end in pairwise(breaks))

    cuts = combinations(range(1, len(values)), num_groups - 1)
    best = min(within((0, *cut, len(values))) for cut in cuts)
    found = natural_breaks(values, num_groups)
    assert len(found) == num_groups + 1
    assert within(found) == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "num_groups", "breaks"),
    [
        ([1, 1, 1, 9, 9, 30, 31], None, (0, 3, 5, 7)),
        ([1, 1, 1, 9, 9, 30, 31], 2, (0, 5, 7)),
        ([5.0, 6.0], None, (0, 1, 2)),
        ([0, 10, 20, 30, 40], None, (0, 1, 2, 3, 5)),
        ([0, 0, 0, 0], None, (0, 1, 2, 4)),
        ([0, 1], 5, (0, 1, 2)),
    ],
    ids=[
        "three clear groups",
        "as many as asked for",
        "two layers",
        "evenly spread",
        "all alike",
        "too many asked for",
    ],
)
def test_choose_breaks(values: list[float], num_groups: int | None, breaks: tuple[int, ...]) -> None:
    found = choose_breaks(values, num_groups)
    if breaks[1:3] == (1, 2) and len(set(values)) == 1:
        assert len(found) == len(breaks)  # any cut is as good as another
    else:
        assert found == breaks


@given(st.lists(st.lists(st.floats(-1, 90), min_size=2, max_size=2), min_size=1, max_size=30), st.integers(0, 12))
def test_a_search_has_few_parameters_however_many_layers_there_are(drops: list[list[float]], num_coupled: int) -> None:
    single = [make_unit(f"conv{number}", drops=drop) for number, drop in enumerate(drops)]
    coupled = [make_unit(f"sum{number}.a", f"sum{number}.b", drops=[5.0, 9.0]) for number in range(num_coupled)]
    groups = group_layers(make_analysis(*single, *coupled))
    assert len(groups) <= MAX_PARAMETERS
    assert len(groups) >= min(3, len(single) + len(coupled))
    grouped = [layer for group in groups if not group.is_coupled for layer in group.layers]
    assert sorted(grouped) == sorted(layer for unit in single for layer in unit.layers)
    assert all(group.layers[0][:-2] == group.layers[1][:-2] for group in groups if group.is_coupled)


def test_groups_begin_with_what_each_of_their_layers_bears() -> None:
    units = [
        make_unit("a", drops=[0.0, 0.5, 1.0, 9.0]),
        make_unit("b", drops=[0.9, 1.1, 0.2, 9.0]),
        make_unit("c", drops=[20, 30, 40, 50]),
        make_unit("d", "e", drops=[0.0, 0.0, 0.0, 2.0]),
    ]
    groups = {group.name: group for group in group_layers(make_analysis(*units), num_groups=2)}
    assert {name: (group.layers, group.sparsity) for name, group in groups.items()} == {
        "group_1": (("a", "b"), 0.1),  # b bears 0.3 by chance only
        "group_2": (("c",), 0.0),
        "coupled_1": (("d", "e"), 0.3),
    }
    assert groups["group_1"].sensitivity == pytest.approx((2.625 + 2.8) / 2)


def test_the_schedule_and_the_study_name_the_same_parameters() -> None:
    groups = (
        Group(name="group_1", layers=("a", "b"), is_coupled=False, sensitivity=1.0, sparsity=0.3),
        Group(name="coupled_1", layers=("c", "d"), is_coupled=True, sensitivity=2.0, sparsity=0.0),
    )
    document = grouped_schedule(groups)
    assert document["pruners"]["coupled_1"]["group_dependency"] == "Leader"
    assert document["pruners"]["group_1"]["weights"] == ["module.a.weight", "module.b.weight"]
    study = grouped_study({"name": "x", "search": {"seed": 3}, "budget": {"parallel": 2}}, "s.yaml", groups, 0.9)
    assert study["search"] == {
        "seed": 3,
        "parameters": {f"{group.name}.desired_sparsity": {"min": 0.0, "max": 0.9} for group in groups},
    }
    assert study["budget"] == {"trials": 16, "parallel": 2}
    schedule = parse_schedule(Located(value=document, source="test"))
    schedule.with_parameters(dict.fromkeys(study["search"]["parameters"], 0.5))
