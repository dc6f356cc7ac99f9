"""What a parameter may be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.config import ParameterValue, Search
from secateur.errors import StudyError
from secateur.search.space import ChoiceParameter, FloatParameter, IntParameter, Space, grid_points


def make_search(**parameters: dict[str, Any]) -> Search:
    return Search.model_validate({"parameters": parameters, "objectives": {"top1": "maximize"}})


@pytest.mark.parametrize(
    ("wanted", "base", "expected"),
    [
        pytest.param({"min": 5, "max": 9}, 7, IntParameter(name="x", low=5, high=9), id="all whole"),
        pytest.param({"min": 0, "max": 1}, 0.5, FloatParameter(name="x", low=0.0, high=1.0), id="schedule is broken"),
        pytest.param({"min": 0.0, "max": 9}, 7, FloatParameter(name="x", low=0.0, high=9.0), id="one end is broken"),
        pytest.param({"min": 1, "max": 9, "step": 2.0}, 7, IntParameter(name="x", low=1, high=9, step=2), id="step"),
        pytest.param(
            {"min": 1, "max": 9, "log": True}, 7, IntParameter(name="x", low=1, high=9, is_log=True), id="log"
        ),
        pytest.param(
            {"min": 0.1, "max": 9, "log": True},
            7,
            FloatParameter(name="x", low=0.1, high=9, is_log=True),
            id="log, broken",
        ),
        pytest.param({"values": [3, 1, 2.5, 1]}, 1, ChoiceParameter(name="x", values=(1, 2.5, 3)), id="numbers"),
        pytest.param({"values": ["b", "a", "b"]}, "a", ChoiceParameter(name="x", values=("b", "a")), id="names"),
        pytest.param({"values": ["auto", 2]}, 2, ChoiceParameter(name="x", values=("auto", 2)), id="mixed"),
    ],
)
def test_kind_follows_from_study_and_schedule(wanted: dict[str, Any], base: ParameterValue, expected: object) -> None:
    assert Space.from_search(make_search(x=wanted), {"x": base}).parameters == (expected,)


def test_fixed_values_are_no_axis_but_part_of_every_point() -> None:
    space = Space.from_search(make_search(x={"value": "a"}, y={"min": 0, "max": 1, "step": 1}), {"x": "b", "y": 0})
    assert space.parameters == (IntParameter(name="y", low=0, high=1, step=1),)
    assert space.from_unit([0.7]) == {"y": 1, "x": "a"}
    assert list(grid_points(space)) == [{"y": 0, "x": "a"}, {"y": 1, "x": "a"}]
    assert {"y": 1, "x": "a"} in space
    assert {"y": 1, "x": "b"} not in space
    assert {"y": 1} not in space


def test_only_numbers_are_ordered() -> None:
    assert ChoiceParameter(name="x", values=(1, 2.5)).is_ordered
    assert not ChoiceParameter(name="x", values=(1, "a")).is_ordered


def test_parameter_the_schedule_lacks_is_refused() -> None:
    with pytest.raises(StudyError, match=r"no number or name called 'pruner_7\.x'\. Did you mean 'pruner_70\.x'\?"):
        Space.from_search(make_search(**{"pruner_7.x": {"min": 0, "max": 1}}), {"pruner_70.x": 0.5})


def test_broken_step_of_a_whole_number_is_refused() -> None:
    with pytest.raises(StudyError, match=r"search\.parameters\.x: .* whole number 7, so the step .* got 0\.5"):
        Space.from_search(make_search(x={"min": 5, "max": 9, "step": 0.5}), {"x": 7})


@pytest.mark.parametrize(
    ("low", "high", "step", "expected"),
    [
        pytest.param(0.0, 0.5, 0.1, [0.0, 0.1, 0.2, 0.3, 0.4, 0.5], id="no 0.30000000000000004"),
        pytest.param(-0.3, 0.1, 0.1, [-0.3, -0.2, -0.1, 0.0, 0.1], id="zero is zero"),
        pytest.param(0.0, 0.99, 0.5, [0.0, 0.5], id="end between two steps"),
        pytest.param(0.0, 1.0, 0.3333333334, [0.0, 0.3333333334, 0.6666666668, 1.0], id="end within tolerance"),
        pytest.param(0.0, 1.0, 2.0, [0.0], id="step beyond the end"),
        pytest.param(0.0, 1e-05, 5e-06, [0.0, 5e-06, 1e-05], id="small"),
    ],
)
def test_grid_of_a_range(low: float, high: float, step: float, expected: list[float]) -> None:
    assert FloatParameter(name="x", low=low, high=high, step=step).grid() == expected


def test_grid_of_whole_numbers_is_whole() -> None:
    values = IntParameter(name="x", low=5, high=9, step=2).grid()
    assert values == [5, 7, 9]
    assert all(isinstance(value, int) for value in values)


WITH_A_GRID = st.one_of(
    st.builds(lambda n: IntParameter(name="", low=-2, high=-2 + n, step=1), st.integers(1, 4)),
    st.builds(lambda n: FloatParameter(name="", low=0.0, high=n / 10, step=0.1), st.integers(1, 4)),
    st.builds(lambda n: ChoiceParameter(name="", values=tuple("abcde"[:n])), st.integers(2, 5)),
    st.builds(lambda n: ChoiceParameter(name="", values=(0.25, 1, 2.5, 8)[:n]), st.integers(2, 4)),
)
LOGARITHMIC = st.one_of(
    st.builds(
        lambda low, n: IntParameter(name="", low=low, high=low + n, is_log=True), st.integers(1, 9), st.integers(1, 99)
    ),
    st.builds(lambda n: FloatParameter(name="", low=1e-4, high=10.0**n, is_log=True), st.integers(-3, 3)),
)


def spaces(parameters: st.SearchStrategy[Any]) -> st.SearchStrategy[Space]:
    """Return spaces of one to three axes, with a fixed value beside them."""
    return st.lists(parameters, min_size=1, max_size=3).map(
        lambda ps: Space(tuple(replace(p, name=f"p{i}") for i, p in enumerate(ps)), {"fixed": 0.1})
    )


@settings(deadline=None)
@given(spaces(WITH_A_GRID))
def test_grid_is_complete_unique_and_in_order(space: Space) -> None:
    points = list(grid_points(space))
    positions = [tuple(p.grid().index(point[p.name]) for p in space.parameters) for point in points]
    assert positions == sorted(set(positions))
    assert len(points) == math.prod(len(parameter.grid()) for parameter in space.parameters)
    assert all(point in space for point in points)


@settings(deadline=None)
@given(spaces(WITH_A_GRID | LOGARITHMIC), st.lists(st.floats(0, 1, exclude_max=True), min_size=3, max_size=3))
def test_unit_cube_maps_into_the_space_and_back(space: Space, point: list[float]) -> None:
    values = space.from_unit(point[: len(space.parameters)])
    assert values in space
    back = space.to_unit(values)
    assert all(0 <= u <= 1 for u in back)
    for parameter, u, v in zip(space.parameters, point, back, strict=False):
        again = parameter.from_unit(v)
        if isinstance(parameter, FloatParameter):
            assert v == pytest.approx(u, abs=1e-9)
            assert again == pytest.approx(values[parameter.name])
        else:
            assert again == values[parameter.name]


def test_logarithmic_axes_share_by_factors() -> None:
    lr = FloatParameter(name="lr", low=0.001, high=0.1, is_log=True)
    assert [lr.from_unit(u) for u in (0.0, 0.5, 1.0)] == pytest.approx([0.001, 0.01, 0.1])
    epochs = IntParameter(name="epochs", low=1, high=7, is_log=True)
    assert [epochs.from_unit(u) for u in (0.0, 0.32, 0.34, 0.66, 0.67, 1.0)] == [1, 1, 2, 3, 4, 7]


def test_unit_interval_is_shared_equally() -> None:
    whole = IntParameter(name="x", low=5, high=9)
    assert [whole.from_unit(u) for u in (0.0, 0.19, 0.21, 0.99, 1.0)] == [5, 5, 6, 9, 9]
    choice = ChoiceParameter(name="x", values=("a", "b"))
    assert [choice.from_unit(u) for u in (0.0, 0.49, 0.51, 1.0)] == ["a", "a", "b", "b"]


@pytest.mark.parametrize("values", [{"x": 10}, {"x": 7.5}, {"x": "7"}, {"y": 7}, {"x": 7, "y": 7}, {}])
def test_what_is_not_in_the_space(values: dict[str, ParameterValue]) -> None:
    assert {"x": 7} in (space := Space((IntParameter(name="x", low=5, high=9),)))
    assert values not in space
