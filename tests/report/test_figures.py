"""The table of figures: what each shows, and why it is left out."""

from __future__ import annotations

import itertools
import struct
import warnings
from collections.abc import Sequence
from typing import Any

import pytest

from secateur.insight import Contour, Importance, Insight, NoInsight, Slice
from secateur.report import gather, render_html, render_markdown, render_png, study_figures
from secateur.report.chart import Bars, Figure, Heat, LeftOut, Panel, Plot
from secateur.report.figures import NOT_ASKED
from secateur.results import KeptFilters, Layer, StudyResults, TrialRecord
from tests.factories import make_baselines, make_compressed, make_latency, make_record, make_results, make_study
from tests.report.test_page import CASES

SPARSITY = "filter_pruner_70.desired_sparsity"
INSIGHT = Insight(
    num_trials=22,
    importance={
        "latency_ratio": {SPARSITY: Importance(first=0.6, total=0.7), "b.c": Importance(first=0.1, total=0.2)},
        "top1": {"b.c": Importance(first=0.5, total=0.5), SPARSITY: Importance(first=0.2, total=0.2)},
    },
    slices=(
        Slice(
            parameter=SPARSITY, metric="top1", xs=(0.0, 0.5, 1.0), means=(90.0, 89.0, 80.0), standard_errors=(1, 1, 2)
        ),
    ),
    contours=(
        Contour(parameters=(SPARSITY, "b.c"), metric="top1", xs=(0.0, 1.0), ys=(0.0, 1.0), means=((90, 80), (85, 70))),
    ),
)
ALL = {
    "trade-off",
    "progress",
    "size",
    "parallel",
    "importance",
    "slices",
    "contours",
    "correlation",
    "bins",
    "curves",
    "before-and-after",
    "kept",
    "remaining",
    "layer-latency",
    "sparsity",
    "wall-clock",
}


def figures_of(results: StudyResults, insight: Insight | NoInsight = NOT_ASKED) -> dict[str, Figure]:
    found = [f for group in study_figures(gather(results), insight).values() for f in group]
    return {figure.name: figure for figure in found if isinstance(figure, Figure)}


def left_out(results: StudyResults) -> dict[str, str]:
    found = [f for group in study_figures(gather(results), NOT_ASKED).values() for f in group]
    return {figure.title: figure.reason for figure in found if isinstance(figure, LeftOut)}


def panel_of(figure: Figure, number: int = 0) -> Any:
    return figure.panels[number]


def full_results() -> StudyResults:
    """Return results in which every figure has its data."""
    layers = (Layer(name="/layer1/layer1.0/conv1/Conv/WithoutBiases", type="Convolution", kernel="jit", ms=0.5),)
    measured = {"latency": make_latency(layers=layers)}
    baselines = {k: r.model_copy(update=measured) for k, r in make_baselines().items()}
    faster = tuple(layer.model_copy(update={"ms": 0.2}) for layer in layers)
    trials = [
        t.model_copy(update={"latency": _with_layers(t, faster)}) if t.latency else t for t in make_results().trials
    ]
    return make_results(trials, baselines=baselines)


def _with_layers(trial: TrialRecord, layers: tuple[Layer, ...]) -> Any:
    assert trial.latency is not None
    return trial.latency.model_copy(update={"layers": layers})


FULL = full_results()


def test_a_full_study_has_every_figure() -> None:
    assert figures_of(FULL, INSIGHT).keys() == ALL


def test_figures_without_data_say_why() -> None:
    reasons = left_out(make_results([], baselines={}))
    assert len(reasons) == len(ALL)
    assert all(reason.endswith(".") for reason in reasons.values())
    page = render_html(make_results([], baselines={}))
    assert "Ax was not asked for its model." in page
    assert "No trial has ended yet." in page


@pytest.mark.parametrize("case", CASES)
def test_every_figure_can_be_drawn_and_told(case: str) -> None:
    for figure in figures_of(CASES[case], INSIGHT).values():
        assert figure.reading.endswith(".")
        for panel in figure.panels:
            assert len(panel.description) > 20
            assert "nan" not in panel.description


def test_every_figure_is_an_image_of_its_own() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in figures_of(FULL, INSIGHT).values():
            png = render_png(figure)
            width, height = struct.unpack(">II", png[16:24])
            assert width == 1200
            assert 300 < height < 3000


def test_markdown_shows_images_with_their_text_alternatives() -> None:
    figures = figures_of(FULL)
    text = render_markdown(FULL, list(figures.values()))
    assert "![Pareto front: top1 % against latency ratio. Shown: front" in text
    for name in figures:
        assert f"]({name}.png)" in text
    assert ".png" not in render_markdown(FULL)


def test_progress_shows_every_objective_with_its_best_so_far() -> None:
    progress = figures_of(make_results())["progress"]
    assert [panel.y.title for panel in _plots(progress.panels)] == ["latency ratio", "top1 %"]
    for panel, is_better in zip(_plots(progress.panels), (float.__le__, float.__ge__), strict=True):
        best = panel.series[0]
        assert best.name == "best so far"
        values = [y for y in best.ys if y is not None]
        assert all(is_better(later, earlier) for earlier, later in itertools.pairwise(values))


def test_size_stands_against_latency_three_times() -> None:
    figure = figures_of(make_results())["size"]
    assert [panel.x.title for panel in _plots(figure.panels)] == ["params", "MACs", "bytes of the ONNX file"]


def test_parallel_lines_run_from_least_to_greatest() -> None:
    panel: Plot = panel_of(figures_of(make_results())["parallel"])
    assert [title for _, title in panel.x.ticks][-1] == "top1 %\n10.00 to 90.46"
    assert "filter_pruner_70.group_type\nChannels to Filters" in [title for _, title in panel.x.ticks]
    heights = {y for series in panel.series for y in series.ys if y is not None}
    assert (min(heights), max(heights)) == (0.0, 1.0)


def test_correlations_are_of_trials_that_no_result_had_a_say_in() -> None:
    figure = figures_of(make_results())["correlation"]
    assert "Over the 7 trials" in figure.note  # the factory's first 8 are quasi-random, one of them failed
    panel: Plot = panel_of(figure)
    (series,) = panel.series
    for r, interval in zip(series.xs, series.x_intervals, strict=True):
        assert r is not None
        assert interval is not None
        assert -1 <= interval[0] < r < interval[1] <= 1


def test_the_dissertations_tables_stand_beside_its_own_experiments_only() -> None:
    names = ("filter_pruner_70", "filter_pruner_60", "filter_pruner_20", "filter_pruner_40")
    space = {f"{name}.desired_sparsity": {"min": 0.0, "max": 0.99} for name in names}
    trials = [
        make_record(
            i, method="sobol", latency_ratio=0.9 - 0.1 * i, top1=80 - i % 3, parameters=dict.fromkeys(space, 0.1 * i)
        )
        for i in range(5)
    ]
    study = make_study(name="dissertation-2", parameters=space)
    panel: Plot = panel_of(figures_of(make_results(trials, study=study))["correlation"])
    assert panel.series[1].name == "the dissertation, 2021"
    assert panel.series[1].xs == [-0.827, -0.501, -0.139, -0.504]
    other: Plot = panel_of(figures_of(make_results(trials, study=make_study(parameters=space)))["correlation"])
    assert [series.name for series in other.series] == ["this study"]


def test_bins_hold_the_mean_of_their_trials() -> None:
    trials = [make_record(i, method="sobol", latency_ratio=0.5 + 0.01 * i, parameters={"a.b": i}) for i in range(25)]
    panel: Plot = panel_of(figures_of(make_results(trials, study=make_study()))["bins"])
    (series,) = panel.series
    assert len(series.xs) == 5  # the square root of 25
    assert series.ys[0] == pytest.approx(0.52)
    assert series.y_intervals[0] == pytest.approx((0.52 - 0.01386, 0.52 + 0.01386), abs=1e-4)


def test_training_that_was_stopped_is_marked() -> None:
    stopped = make_record(1, state="stopped", compressed=make_compressed(60.0, num_epochs=2))
    figure = figures_of(make_results([make_record(0), stopped]))["curves"]
    panel: Plot = panel_of(figure)
    cross = next(series for series in panel.series if series.name == "stopped here")
    assert (list(cross.xs), cross.symbol) == ([2.0], "x")
    assert "1 trainings were stopped early." in figure.note


def test_kept_filters_are_shares_of_each_layer() -> None:
    layers = {"a": KeptFilters(num_filters=4, kept=(0, 3)), "b": KeptFilters(num_filters=2, kept=(0, 1))}
    results = make_results([make_record(0, compressed=make_compressed(89.5, layers=layers))], baselines={})
    study = make_study(constraints=())
    kept: Heat = panel_of(figures_of(make_results(results.trials, baselines={}, study=study))["kept"])
    assert [name for _, name in kept.y.ticks] == ["a"]  # b lost nothing
    assert kept.values == ((0.5,),)
    remaining: Heat = panel_of(figures_of(make_results(results.trials, baselines={}, study=study))["remaining"])
    assert remaining.values == ((1.0, 0.0, 0.0, 1.0),)


def test_layers_of_best_trial_and_baselines_stand_side_by_side() -> None:
    bars: Bars = panel_of(figures_of(FULL)["layer-latency"])
    assert bars.labels == ("layer1.0/conv1",)
    assert [(name, values) for name, _, values in bars.groups] == [
        ("unpruned", (0.5,)),
        ("off the shelf", (0.5,)),
        ("trial 5", (0.2,)),
    ]


def test_the_champion_stands_beside_the_best_trial() -> None:
    trial = next(trial for trial in FULL.trials if trial.label == "5")
    results = FULL.model_copy(update={"champion": trial.model_copy(update={"label": "5-1"})})
    figures = figures_of(results)
    champion = next(series for series in panel_of(figures["trade-off"]).series if series.name == "champion")
    assert len(champion.xs) == 1
    bars: Bars = panel_of(figures["layer-latency"])
    assert [name for name, _, _ in bars.groups] == ["unpruned", "off the shelf", "trial 5", "champion"]
    assert "champion" in render_html(results)
    assert "champion" in render_markdown(results, list(figures.values()))


def _plots(panels: Sequence[Panel]) -> list[Plot]:
    return [panel for panel in panels if isinstance(panel, Plot)]
