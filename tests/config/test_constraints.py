from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.config import Constraint

NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
OPERATORS = st.sampled_from(["<=", ">="])
REFERENCES = st.sampled_from(["baseline", "off_the_shelf"])
NUMBERS = st.decimals(min_value=0, max_value=1000, places=3).map(str)
SPACES = st.sampled_from(["", " ", "  "])


@given(NAMES, OPERATORS, NUMBERS, SPACES, st.sampled_from(["", "+", "-"]))
def test_a_constraint_says_what_was_written(name: str, operator: str, number: str, space: str, sign: str) -> None:
    constraint = Constraint.parse(f"{space}{name}{space}{operator}{space}{sign}{number}{space}")
    assert (constraint.metric, constraint.operator, constraint.reference) == (name, operator, None)
    assert constraint.bound({}) == float(sign + number)


@given(NAMES, OPERATORS, REFERENCES, st.sampled_from("+-"), NUMBERS, SPACES)
def test_a_relative_constraint_says_what_was_written(
    name: str, operator: str, reference: str, sign: str, number: str, space: str
) -> None:
    constraint = Constraint.parse(f"{name}{space}{operator}{space}{reference}{space}{sign}{space}{number}")
    assert (constraint.metric, constraint.operator, constraint.reference) == (name, operator, reference)
    assert constraint.offset == float(sign + number)
    assert constraint.bound({reference: {name: 10.0}}) == 10.0 + float(sign + number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "top1",
        "top1 > 3",
        "top1 == 3",
        "top1 >= ",
        ">= 3",
        "top1 >= 3 %",
        "top1 >= baseline * 2",
        "top1 >= baseline - -1",
        "top1 >= baseline - off_the_shelf",
        "top1 >= other",
        "top1 >= nan",
        "1top >= 3",
        "top 1 >= 3",
        "3 <= top1",
    ],
)
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected 'metric >= number' or 'metric >= baseline - number'.*, got"):
        Constraint.parse(text)


@given(st.text(max_size=20))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        constraint = Constraint.parse(text)
    except ValueError:
        return
    assert constraint.metric in text
    assert math.isfinite(constraint.offset)


@pytest.mark.parametrize(
    ("text", "top1", "expected"),
    [
        ("top1 >= baseline - 1.0", 89.0, True),
        ("top1 >= baseline - 1.0", 88.99, False),
        ("top1 <= off_the_shelf", 85.0, True),
        ("top1 <= off_the_shelf + 0.5", 85.6, False),
        ("top1 >= 1e1", 10.0, True),
        ("top1 >= 10", math.nan, False),
        ("top1 <= 10", math.nan, False),
        ("loss <= 10", 5.0, False),
    ],
)
def test_whether_it_holds(text: str, top1: float, expected: bool) -> None:
    baselines = {"baseline": {"top1": 90.0}, "off_the_shelf": {"top1": 85.0}}
    assert Constraint.parse(text).holds({"top1": top1}, baselines) is expected


def test_without_the_baseline_there_is_no_bound() -> None:
    with pytest.raises(KeyError, match="off_the_shelf"):
        Constraint.parse("top1 >= off_the_shelf").bound({"baseline": {"top1": 90.0}})
