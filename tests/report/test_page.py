"""The HTML report: what is on the page, and what must never be."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
from typing import Any

import plotly.graph_objects
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.report import render_html
from secateur.report.formats import ABSENT
from secateur.report.plotly_drawing import plotly_script
from secateur.results import Failure, State, StudyResults
from tests.factories import (
    make_baselines,
    make_compressed,
    make_device,
    make_latency,
    make_record,
    make_results,
    make_study,
    make_trials,
)
from tests.report.parsed import Page

PAYLOAD = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"&<b>"

SINGLE = make_study(objectives={"latency_ratio": "minimize"})
CASES = {
    "usual": make_results(),
    "no trials": make_results([]),
    "nothing at all": make_results([], baselines={}),
    "no baselines": make_results(baselines={}),
    "one trial": make_results([make_record(0)]),
    "only failures": make_results([make_record(i, state="failed") for i in range(3)]),
    "only proposed": make_results([make_record(i, state="proposed", top1=None, latency_ratio=None) for i in range(3)]),
    "not measured yet": make_results([make_record(i, state="compressed", latency_ratio=None) for i in range(3)]),
    "measured, not trained": make_results([make_record(0, state="compressed", top1=None)]),
    "one objective": make_results(study=SINGLE),
    "one objective, no trials": make_results([], study=SINGLE),
    "top1 only": make_results(study=make_study(objectives={"top1": "maximize"}, constraints=())),
    "three objectives": make_results(
        study=make_study(objectives={"latency_ratio": "minimize", "top1": "maximize", "num_params": "minimize"})
    ),
    "equal figures": make_results([make_record(i) for i in range(4)]),
    "hundreds": make_results(num_trials=400),
}


def parse(results: StudyResults) -> Page:
    return Page(render_html(results))


@functools.cache
def page_of(case: str) -> Page:
    return parse(CASES[case])


@pytest.mark.parametrize("case", CASES)
def test_every_record_stands_in_the_table_once(case: str) -> None:
    page, results = page_of(case), CASES[case]
    labels = [*results.baselines, *(trial.label for trial in results.trials)]
    assert {label: len(rows) for label, rows in page.rows.items()} == dict.fromkeys(labels, 1)
    assert page.plotly == plotly_script()
    assert len(page.scripts) == 1
    assert not re.search(r"\b([nN]a[nN]|inf|None)\b", page.text)


def test_rows_are_best_first_and_baselines_on_top() -> None:
    page = page_of("usual")
    assert list(page.rows)[:3] == ["unpruned", "off_the_shelf", "5"]
    assert page.cell("5", "state") == "front"
    assert page.cell("5", "latency ratio") == "0.528 [0.526, 0.531]"
    assert page.cell("off_the_shelf", "top1 %") == "89.70"
    assert page.cell("unpruned", "MACs") == "40,871,100"
    assert page.cell("8", "test top1 %") == "89.19"
    assert page.cell("5", "test top1 %") == ABSENT
    assert page.cell("17", "state") == "noisy front"
    assert page.cell("4", "state") == "failed"
    assert page.cell("21", "state") == "proposed"
    assert page.cell("5", "filter_pruner_70.group_type") == "Channels"


def test_headline_compares_the_best_trial_with_both_baselines() -> None:
    text = page_of("usual").text
    assert (
        "Trial 5 takes 0.528 [0.526, 0.531] of the unpruned network's latency at 89.28 % top1, 0.82 points below it; "
        "the off-the-shelf setting stands at 0.772 [0.769, 0.775] and 89.70 %." in text
    )
    assert "resnet20_cifar on cifar10, measured on Intel(R) Xeon(R) Processor @ 2.60GHz (CPU), OpenVINO" in text
    assert "f32, 1 thread, host edge-1" in text
    assert "22 trials: 16 completed, 2 noisy, 2 failed, 1 suspect, 1 proposed" in text


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = page_of("usual")
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = attributes.get(name)
            assert value in {None, "data:,"} or str(value).startswith("#"), f"<{tag} {name}={value!r}>"
    styles = render_html(CASES["usual"]).partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in styles
    assert "@import" not in styles


def test_policy_allows_the_pages_own_scripts_only() -> None:
    page = Page(render_html(CASES["usual"]))
    (policy,) = (a["content"] for t, a in page.elements if t == "meta" and a.get("http-equiv"))
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in (page.plotly, *page.scripts)]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes


def test_page_is_accessible() -> None:
    page = page_of("usual")
    tags = [tag for tag, _ in page.elements]
    assert dict(page.elements)["html"]["lang"] == "en"
    assert tags.count("h1") == tags.count("title") == tags.count("main") == 1
    assert all(a.get("scope") in {"col", "row"} for tag, a in page.elements if tag == "th")
    assert tags.count("caption") == tags.count("table")
    plots = [a for _, a in page.elements if "data-figure" in a]
    assert len(plots) > 15
    assert {plot["role"] for plot in plots} == {"img"}
    assert all(len(str(plot["aria-label"])) > 30 for plot in plots)
    assert "top1 % against latency ratio. Shown: front, 7 on the front" in str(plots[0]["aria-label"])
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"] for tag, a in page.elements if tag == "a"} <= {f"#{name}" for name in ids}


@pytest.mark.parametrize("case", CASES)
def test_figures_are_what_plotly_expects(case: str) -> None:
    for figure in page_of(case).figures.values():
        plotly.graph_objects.Figure(figure)  # refuses an unknown or ill-typed property


def test_pareto_plot_shows_trials_front_baselines_and_constraint() -> None:
    figure = page_of("usual").figures["trade-off-data"]
    traces = {trace["name"]: trace for trace in figure["data"]}
    assert list(traces) == [
        "front",
        "on the front",
        "completed",
        "constraints not met",
        "noisy measurement",
        "predicts one class only",
        "unpruned",
        "off the shelf",
    ]
    markers = [trace["marker"]["symbol"] for name, trace in traces.items() if name != "front"]
    assert len({*zip(markers, [t["marker"]["color"] for t in figure["data"][1:]], strict=True)}) == len(markers)
    assert traces["off the shelf"]["x"] == [0.772]
    assert traces["off the shelf"]["error_x"]["array"] == pytest.approx([0.772 * 0.004])
    assert traces["front"]["x"] == sorted(traces["front"]["x"])
    assert traces["front"]["line"]["shape"] == "hv"
    hover = page_of("usual").hovers[traces["on the front"]["customdata"][0]]
    assert "<b>trial 5</b>" in hover
    assert "latency ratio: 0.528 [0.526, 0.531]" in hover
    assert "<i>filter_pruner_70</i> = 0.8567" in hover
    assert [shape["type"] for shape in figure["layout"]["shapes"]] == ["line", "rect"]
    assert figure["layout"]["shapes"][0]["y0"] == pytest.approx(89.1)
    assert figure["layout"]["annotations"][0]["text"] == "top1 &gt;= baseline - 1.0"


def test_one_objective_is_plotted_against_the_trials_number() -> None:
    page = page_of("one objective")
    assert list(page.figures)[:3] == ["progress-1-data", "progress-2-data", "trade-off-data"]
    best = next(trace for trace in page.figures["progress-1-data"]["data"] if trace["name"] == "best so far")
    assert best["y"] == sorted(best["y"], reverse=True)
    assert best["x"][-1] == 21
    assert best["y"][-1] == pytest.approx(0.528, abs=5e-4)
    assert page.cell("5", "state") == "best"


def test_outliers_get_a_closer_view_first() -> None:
    page = page_of("usual")
    views = [a for tag, a in page.elements if tag == "button" and a.get("data-view") == "trade-off"]
    assert [v["aria-pressed"] for v in views] == ["true", "false"]
    assert page.figures["trade-off-data"]["layout"]["yaxis"]["range"][0] > 80  # the suspect trial stands at 10
    assert (
        "2 points lie outside of the closer view. Not in the plot, for want of a figure: 2 failed, 1 not finished."
        in page.text
    )


def test_failures_show_their_errors() -> None:
    page = page_of("only failures")
    assert "No trial has a result: every one failed." in page.text
    assert page.text.count("The runner was silent for 120 s and was killed.") == 3


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("no trials", "There are no trials yet."),
        ("only proposed", "No trial has a result yet."),
        ("not measured yet", "not measured yet"),
        ("no baselines", "Whether top1 >= baseline - 1.0 holds is not known before the baseline is."),
    ],
)
def test_page_says_why_there_is_no_result(case: str, sentence: str) -> None:
    results = CASES[case] if case != "not measured yet" else make_results(CASES[case].trials, baselines={})
    assert sentence in parse(results).text


def test_different_devices_are_pointed_out() -> None:
    other = make_latency(device=make_device(host="edge-2"))
    page = parse(make_results([make_record(0), make_record(1, latency=other)]))
    assert "Latencies were measured under different conditions: they do not compare." in page.text
    assert "do not compare" not in page_of("usual").text


def test_conditions_and_versions_are_listed() -> None:
    text = parse(make_results([make_record(0, latency=make_latency(load=1.75))])).text
    assert "before load average 0.4 to 1.75" in text
    assert "before governor performance" in text
    assert "torch 2.13.0" in text
    assert "test data touched 2 times" in text


def test_whatever_a_record_holds_is_text() -> None:
    compressed = make_compressed()
    evil = make_record(
        0,
        method=PAYLOAD,
        parameters={PAYLOAD: 0.5, "choice.of": PAYLOAD},
        seconds={PAYLOAD: 1.0},
        versions={PAYLOAD: PAYLOAD},
        compressed=compressed.model_copy(
            update={"validation": compressed.validation.model_copy(update={"others": {PAYLOAD: 1.0}})}
        ),
        latency=make_latency(
            device=make_device(host=PAYLOAD, full_name=PAYLOAD), conditions={PAYLOAD: {PAYLOAD: PAYLOAD}}
        ),
    )
    failed = make_record(
        1, state="failed", failure=Failure(phase=PAYLOAD, type=PAYLOAD, message=PAYLOAD), parameters={PAYLOAD: PAYLOAD}
    )
    study = make_study(dataset=PAYLOAD, model=PAYLOAD)
    for objectives in ({"latency_ratio": "minimize", "top1": "maximize"}, {"latency_ratio": "minimize"}):
        study["search"]["objectives"] = objectives
        page = parse(make_results([evil, failed], study=study))
        usual = page_of("usual")
        assert {tag for tag, _ in page.elements} <= {tag for tag, _ in usual.elements}
        assert len(page.scripts) == 1
        assert page.text.count(" ".join(PAYLOAD.split())) > 5
        for figure in (*page.figures.values(), page.hovers):
            assert not re.search(r"<(?!/?b>|/?i>|br>|/?extra>)", str(figure))


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(
    figures=st.lists(st.tuples(FINITE, FINITE, st.integers(0, 10**18), FINITE), max_size=5),
    is_single=st.booleans(),
)
def test_any_finite_figures_can_be_shown(figures: list[tuple[float, ...]], is_single: bool) -> None:
    trials = [
        make_record(i, top1=top1, latency_ratio=ratio, num_params=int(params), parameters={"a.b": value})
        for i, (top1, ratio, params, value) in enumerate(figures)
    ]
    page = parse(make_results(trials, study=SINGLE if is_single else None))
    assert not re.search(r"\b(nan|inf)\b", page.text, re.IGNORECASE)
    for figure in page.figures.values():
        assert _ranges_are_finite(figure)


def _ranges_are_finite(figure: dict[str, Any]) -> bool:
    ranges = [figure["layout"][axis]["range"] for axis in ("xaxis", "yaxis")]
    return all(low != high and math.isfinite(low) and math.isfinite(high) for low, high in ranges)


def test_figures_that_are_not_finite_are_left_out() -> None:
    nan, inf = float("nan"), float("inf")
    latency = make_latency()
    broken = latency.model_copy(
        update={"latency_ratio": latency.latency_ratio.model_copy(update={"low": nan, "high": inf})}
    )
    page = parse(make_results([make_record(0, latency=broken, seconds={"train": nan}, parameters={"a.b": nan})]))
    assert page.cell("0", "latency ratio") == "0.800"
    assert page.cell("0", "seconds") == ABSENT
    assert not re.search(r"\b(nan|inf)\b", page.text, re.IGNORECASE)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("noisy", ", and its measurement was noisy; the off-the-shelf setting"),
        ("suspect", ", but it predicts one class only; the off-the-shelf setting"),
    ],
)
def test_doubts_about_the_best_trial_are_in_the_headline(state: State, words: str) -> None:
    assert words in parse(make_results([make_record(0, state=state, top1=90.0)])).text


def test_constraints_that_nothing_keeps_are_named() -> None:
    text = parse(make_results([make_record(0, top1=80.0)])).text
    assert "No trial satisfies top1 >= baseline - 1.0 (89.10) yet." in text


def test_page_is_the_same_each_time() -> None:
    results = make_results(make_trials(5), baselines=make_baselines())
    assert render_html(results) == render_html(results)
