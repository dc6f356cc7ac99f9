"""Importance, slices and contours from Ax's model: a program that reads a `Question` and writes an `Insight`, as JSON.

It is a process of its own, so that whoever asks can stop waiting: see `secateur.search.insight`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from secateur.config import ParameterValue, Study
from secateur.insight import Contour, Importance, Insight, Slice
from secateur.search.ax_optimiser import AxModel, AxOptimiser
from secateur.search.goal import Goal
from secateur.search.insight import Question
from secateur.search.space import ChoiceParameter, FloatParameter, Parameter, Space

_NUM_SAMPLES = 2048
"""Of the Monte-Carlo estimate of Sobol indices: with Ax's 10,000 they change in the second digit."""
_NUM_SLICE_POINTS = 33
_NUM_CONTOUR_POINTS = 21


def answer(question: Question) -> Insight:
    """Fit a Gaussian process to each metric, and read it.

    The model is of latency and top1, whatever the study's objectives are: how each part of the network drives them.
    """
    torch.manual_seed(0)  # of the estimate of Sobol indices
    study = Study.model_validate(question.study)
    # A parameter is one of whole numbers if its values are: the schedule, which says so, is not needed for that.
    space = Space.from_search(study.search, question.trials[0].parameters)
    goal = Goal(objectives={"latency_ratio": "minimize", "top1": "maximize"}, bounds=(), unpruned=question.unpruned)
    model = AxOptimiser(study.name, space, goal, study.search.seed, question.trials).fit()
    importance = {
        metric: {
            name: Importance(first=first, total=total)
            for name, (first, total) in sorted(of_metric.items(), key=lambda item: -item[1][1])
        }
        for metric, of_metric in model.sobol_indices(_NUM_SAMPLES).items()
    }
    ordered = {p.name: p for p in space.parameters if not isinstance(p, ChoiceParameter) or p.is_ordered}
    return Insight(
        num_trials=len(question.trials),
        importance=importance,
        slices=tuple(
            found
            for metric in importance
            for p in ordered.values()
            for found in [_slice(model, metric, p, question.center)]
        ),
        contours=tuple(
            _contour(model, metric, [ordered[name] for name in names[:2]], question.center)
            for metric, of_metric in importance.items()
            if len(names := [name for name in of_metric if name in ordered]) > 1
        ),
    )


def _slice(model: AxModel, metric: str, parameter: Parameter, center: Mapping[str, ParameterValue]) -> Slice:
    xs = _values(parameter, _NUM_SLICE_POINTS)
    found = [expected[metric] for expected in model.predict([{**center, parameter.name: x} for x in xs])]
    return Slice(
        parameter=parameter.name,
        metric=metric,
        xs=tuple(map(float, xs)),
        means=tuple(mean for mean, _ in found),
        standard_errors=tuple(error for _, error in found),
    )


def _contour(
    model: AxModel, metric: str, parameters: Sequence[Parameter], center: Mapping[str, ParameterValue]
) -> Contour:
    across, up = parameters
    xs, ys = _values(across, _NUM_CONTOUR_POINTS), _values(up, _NUM_CONTOUR_POINTS)
    points = [{**center, across.name: x, up.name: y} for y in ys for x in xs]
    means = [expected[metric][0] for expected in model.predict(points)]
    return Contour(
        parameters=(across.name, up.name),
        metric=metric,
        xs=tuple(map(float, xs)),
        ys=tuple(map(float, ys)),
        means=tuple(tuple(means[i * len(xs) : (i + 1) * len(xs)]) for i in range(len(ys))),
    )


def _values(parameter: Parameter, num: int) -> list[ParameterValue]:
    """Return up to `num` values of a parameter, evenly over its range."""
    if isinstance(parameter, FloatParameter):
        return [float(value) for value in np.linspace(parameter.low, parameter.high, num)]
    values = (
        list(parameter.values)
        if isinstance(parameter, ChoiceParameter)
        else list(range(parameter.low, parameter.high + 1))
    )
    return [values[i] for i in sorted({round(at) for at in np.linspace(0, len(values) - 1, num)})]


if __name__ == "__main__":
    sys.stdout.write(answer(Question.model_validate_json(sys.stdin.read())).model_dump_json())
