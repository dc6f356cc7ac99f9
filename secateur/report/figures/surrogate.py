"""What Ax's model of a study says: importance of each parameter, slices, contours."""

from __future__ import annotations

from secateur.insight import Contour, Insight, NoInsight, Slice
from secateur.report.chart import COLORS, Axis, Bars, Figure, Heat, LeftOut, Plot, Series, axis_of
from secateur.report.facts import Facts, name_of
from secateur.report.formats import metric_text, parameter_text, title_of

TITLES = ("Importance of each parameter", "Slices of the model", "Contours of the model")
_QUANTILE = 1.959964


def figures(facts: Facts, insight: Insight | NoInsight) -> list[Figure | LeftOut]:
    """Return what can be seen in a model."""
    if isinstance(insight, NoInsight):
        return [LeftOut(title=title, reason=insight.reason) for title in TITLES]
    contours = (
        _contours(facts, insight) if insight.contours else LeftOut(title=TITLES[2], reason="It takes two parameters.")
    )
    return [_importance(facts, insight), _slices(facts, insight), contours]


def _importance(facts: Facts, insight: Insight) -> Figure:
    panels = []
    for metric, of_metric in insight.importance.items():
        groups = [("alone", COLORS["feasible"], tuple(found.first for found in of_metric.values()))]
        groups.append(("with others", COLORS["front"], tuple(found.total for found in of_metric.values())))
        panels.append(
            Bars(
                title=title_of(metric),
                x=Axis(title="share of variance", range=(0.0, 1.05)),
                labels=tuple(facts.names.get(name, name) for name in of_metric),
                groups=tuple(groups),
                texts=tuple(tuple(f"{name}: {value:.0%}" for value in values) for name, _, values in groups),
            )
        )
    return Figure(
        name="importance",
        title=TITLES[0],
        reading="Sobol indices of Ax's model: what part of a metric's variance over the search space a parameter"
        " explains, alone and together with others.",
        panels=tuple(panels),
        note=f"The model is fitted to {_sample(insight)} trials.",
    )


def _sample(insight: Insight) -> str:
    is_whole = insight.num_trials == insight.num_modelled
    return f"{insight.num_trials:,}" if is_whole else f"{insight.num_trials:,} of {insight.num_modelled:,}"


def _slices(facts: Facts, insight: Insight) -> Figure:
    return Figure(
        name="slices",
        title=TITLES[1],
        reading="What the model expects along one parameter, the others as in"
        f" {_center(facts)}; the shaded part is its 95 % interval.",
        panels=tuple(_slice(facts, found) for found in insight.slices),
    )


def _slice(facts: Facts, found: Slice) -> Plot:
    name, metric = facts.names.get(found.parameter, found.parameter), title_of(found.metric)
    pairs = zip(found.means, found.standard_errors, strict=True)
    band = [(mean - _QUANTILE * error, mean + _QUANTILE * error) for mean, error in pairs]
    return Plot(
        title=f"{metric}, {name}",
        x=Axis(title=name, range=(found.xs[0], found.xs[-1])),
        y=axis_of(metric, [v for limits in band for v in limits]),
        series=(
            Series(
                name="",
                xs=found.xs,
                ys=found.means,
                color=COLORS["front"],
                line="linear",
                band=band,
                hovers=[
                    f"{name} {parameter_text(x)}: {metric} {metric_text(found.metric, mean)}"
                    for x, mean in zip(found.xs, found.means, strict=True)
                ],
            ),
        ),
    )


def _contours(facts: Facts, insight: Insight) -> Figure:
    return Figure(
        name="contours",
        title=TITLES[2],
        reading=f"What the model expects along the two parameters that matter most, the others as in {_center(facts)}.",
        panels=tuple(_contour(facts, found) for found in insight.contours),
    )


def _contour(facts: Facts, found: Contour) -> Heat:
    across, up = (facts.names.get(name, name) for name in found.parameters)
    values = [v for row in found.means for v in row]
    return Heat(
        title=title_of(found.metric),
        x=Axis(title=across, range=(found.xs[0], found.xs[-1])),
        y=Axis(title=up, range=(found.ys[0], found.ys[-1])),
        xs=found.xs,
        ys=found.ys,
        values=found.means,
        limits=(min(values), max(values)),
        told=f"{title_of(found.metric)} {{value:.3f}}",
    )


def _center(facts: Facts) -> str:
    return name_of(facts.best) if facts.best else "the trial that ranks first"
