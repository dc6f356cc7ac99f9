"""The plot as a PNG."""

from __future__ import annotations

import struct
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.report import render_pareto_png
from secateur.report.png import HEIGHT_PX, WIDTH_PX
from secateur.results import StudyResults
from tests.factories import make_record, make_results, make_study
from tests.report.test_page import CASES


def size_of(png: bytes) -> tuple[int, int]:
    """Read width and height from the header."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png[12:16] == b"IHDR"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("results", CASES.values(), ids=CASES.keys())
def test_png_has_its_size(results: StudyResults) -> None:
    assert size_of(render_pareto_png(results)) == (WIDTH_PX, HEIGHT_PX) == (1200, 750)


def test_bounds_on_either_axis_are_drawn() -> None:
    study = make_study(constraints=("latency_ratio <= 0.9", "top1 >= 80"))
    assert size_of(render_pareto_png(make_results(study=study))) == (1200, 750)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(figures=st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=4))
def test_any_finite_figures_can_be_drawn(figures: list[tuple[float, float]]) -> None:
    trials = [make_record(i, top1=top1, latency_ratio=ratio) for i, (top1, ratio) in enumerate(figures)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert size_of(render_pareto_png(make_results(trials))) == (1200, 750)
