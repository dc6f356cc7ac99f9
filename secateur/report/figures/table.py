"""Which figures a report has, in order. A figure that a study has no data for says why it is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from secateur.insight import Insight, NoInsight
from secateur.report.chart import Figure, LeftOut
from secateur.report.facts import Facts
from secateur.report.figures import curves, layers, outcome, parameters, spending, surrogate

NOT_ASKED = NoInsight(reason="Ax was not asked for its model.")

Make = Callable[[Facts], Figure | LeftOut]

_MAKERS: Mapping[str, tuple[Make, ...]] = {
    "Result": (outcome.trade_off, outcome.progress, outcome.size),
    "Parameters": (parameters.parallel, parameters.correlation, parameters.bins),
    "Training": (curves.retraining, curves.before_and_after),
    "Layers": (layers.kept, layers.remaining, layers.latency, layers.sparsity),
    "Time": (spending.wall_clock,),
}
"""Heading -> its figures; those of Ax's model stand with the parameters."""


def study_figures(facts: Facts, insight: Insight | NoInsight) -> dict[str, list[Figure | LeftOut]]:
    """Return all figures of a study, by heading."""
    found = {heading: [make(facts) for make in makers] for heading, makers in _MAKERS.items()}
    if len(facts.objectives) == 1:
        found["Result"][:2] = reversed(found["Result"][:2])
    found["Parameters"][1:1] = surrogate.figures(facts, insight)
    return found


def first_figure(facts: Facts) -> Figure | LeftOut:
    """Return the figure that says most: the front, or the progress towards a single objective."""
    return outcome.trade_off(facts) if len(facts.objectives) > 1 else outcome.progress(facts)
