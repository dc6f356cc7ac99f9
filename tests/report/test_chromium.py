"""The page in a real browser: no error, every figure drawn, a hover tells the trial, readable on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from secateur.report import render_html
from secateur.results import StudyResults
from tests.factories import make_results
from tests.report.chromium import PROGRAM, Tab, chromium
from tests.report.test_figures import FULL, INSIGHT
from tests.report.test_page import PAYLOAD, SINGLE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed"),
]

NOT_DRAWN = "[...document.querySelectorAll('[data-figure]')].filter((p) => !p.querySelector('.main-svg')).length"
NUM_FIGURES = "document.querySelectorAll('[data-figure]').length"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


def show(tab: Tab, folder: Path, results: StudyResults, *, width: int = 1280, is_dark: bool = False) -> None:
    page = folder / "report.html"
    page.write_text(render_html(results, INSIGHT))
    assert page.stat().st_size < 6_000_000
    tab.problems.clear()
    tab.open(page, width=width, is_dark=is_dark)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_every_figure_is_drawn_and_nothing_scrolls_sideways(
    tab: Tab, tmp_path: Path, width: int, *, is_dark: bool
) -> None:
    show(tab, tmp_path, FULL, width=width, is_dark=is_dark)
    assert tab.problems == []
    assert tab.evaluate(NUM_FIGURES) >= 25
    assert tab.evaluate(NOT_DRAWN) == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("[...document.querySelectorAll('.plot')].every((p) => p.getAttribute('aria-label'))")


def test_a_hover_tells_the_trial(tab: Tab, tmp_path: Path) -> None:
    show(tab, tmp_path, FULL)
    for name in ("trade-off", "curves"):
        x, y = tab.evaluate(
            f"""(() => {{
              const plot = document.getElementById("{name}");
              plot.scrollIntoView({{ block: "center" }});
              const trace = plot.data.findIndex((t) => t.customdata && t.name === "on the front");
              const {{ xaxis, yaxis }} = plot._fullLayout;
              const box = plot.getBoundingClientRect();
              const [x, y] = [plot.data[trace].x[0], plot.data[trace].y[0]];
              return [box.x + xaxis._offset + xaxis.d2p(x), box.y + yaxis._offset + yaxis.d2p(y)];
            }})()"""
        )
        tab.point_at(x - 1, y - 1)
        tab.point_at(x, y)
        told = tab.evaluate(
            "new Promise((done) => { let looks = 0; const look = () => {"
            f" const text = document.querySelector('#{name} .hovertext')?.textContent;"
            " text || looks++ > 50 ? done(text) : setTimeout(look, 50); }; look(); })"
        )
        assert "trial" in str(told), name
        assert "latency ratio" in str(told), name


def test_a_click_on_a_header_sorts_the_trials(tab: Tab, tmp_path: Path) -> None:
    show(tab, tmp_path, FULL)
    first = "document.querySelector('#trials tbody:last-of-type tr').dataset.label"
    assert tab.evaluate(first) == "5"
    tab.evaluate("document.querySelector('#trials thead button').click()")
    assert tab.evaluate(first) == "0"


def test_a_page_of_hundreds_of_trials_and_of_one_objective_is_drawn(tab: Tab, tmp_path: Path) -> None:
    show(tab, tmp_path, make_results(study=SINGLE, num_trials=1600))
    assert tab.problems == []
    assert tab.evaluate(NOT_DRAWN) == 0


def test_markup_in_records_does_nothing(tab: Tab, tmp_path: Path) -> None:
    trials = [t.model_copy(update={"remark": PAYLOAD, "method": PAYLOAD}) for t in FULL.trials]
    show(tab, tmp_path, FULL.model_copy(update={"trials": tuple(trials)}))
    assert tab.problems == []
    assert tab.evaluate("document.querySelectorAll('img').length") == 0
