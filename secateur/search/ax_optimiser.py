"""Bayesian optimisation with Ax: a Gaussian process for each metric, and the points it finds most promising.

An optimiser is built from the trial records each time it is asked: attaching a trial takes 10 ms, a candidate about a
second, and the same records give the same candidates, whether the search was interrupted or not. (A client that Ax
reads back from JSON gives others, from the ninth digit on.)
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from ax.adapter.registry import Generators
from ax.adapter.torch import TorchAdapter
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig
from ax.core.data import Data, DataRow
from ax.core.evaluations_to_data import raw_evaluations_to_data
from ax.core.experiment import Experiment
from ax.core.observation import ObservationFeatures
from ax.generation_strategy.generation_node import GenerationNode
from ax.generation_strategy.generation_strategy import GenerationStrategy
from ax.generation_strategy.generator_spec import GeneratorSpec
from ax.utils.common.logger import set_stderr_log_level
from ax.utils.sensitivity.sobol_measures import ax_parameter_sens
from botorch.acquisition.multi_objective import logei

from secateur.config import ParameterValue
from secateur.errors import SearchError
from secateur.results import TrialRecord
from secateur.search.goal import Goal, Outcome
from secateur.search.quiet import quiet
from secateur.search.space import ChoiceParameter, FloatParameter, Parameter, Space

set_stderr_log_level(logging.ERROR)

# botorch would compile a C++ kernel at first use: half a minute, a compiler, and a lock file in ~/.cache that a killed
# process leaves behind, on which all later ones wait forever. It saves 0.3 s a candidate.
logei._load_attempted = True

# Ax's defaults, 20 and 1024, take three times as long, and in a space of four parameters the front is no better.
_OPTIMIZER_OPTIONS = {"num_restarts": 4, "raw_samples": 128}


class AxOptimiser:
    """What is known of a study, as Ax sees it."""

    def __init__(self, name: str, space: Space, goal: Goal, seed: int, records: Sequence[TrialRecord]) -> None:
        """Tell Ax everything.

        Usable trials enter with their results, unfinished ones as pending; the others are never proposed again. Points
        outside the space (of an earlier version of the study) are left out.

        Args:
            name: The study's.
            space: What may be set.
            goal: What for.
            seed: Of the candidates.
            records: All trials so far, by index.
        """
        self._space, self._goal = space, goal
        self._client = Client(random_seed=seed)
        self._asked: list[tuple[int, dict[str, ParameterValue]]] = []
        with quiet():
            self._client.configure_experiment([_ax_parameter(p) for p in space.parameters], name=name)
            self._client.configure_optimization(goal.ax_objective, goal.ax_constraints(records))
            self._client.set_generation_strategy(_bayes_alone())
            self._tell([record for record in records if record.parameters in space])

    def _tell(self, records: Sequence[TrialRecord]) -> None:
        """Tell all results at once: one by one, Ax sorts all of its data anew for each."""
        experiment, rows = self._client._experiment, list[DataRow]()
        for record in records:
            index = self._client.attach_trial(_encode(self._space, record.parameters))
            trial, outcome = experiment.trials[index], self._goal.outcome(record)
            if outcome is not None:
                rows += _data_rows(experiment, index, outcome)
                trial.mark_completed()
            elif record.is_finished:
                self._client.mark_trial_abandoned(index)  # Ax would propose a "failed" one again
        if rows:
            experiment.attach_data(Data(data_rows=rows))

    def tell_pending(self, parameters: Mapping[str, ParameterValue]) -> None:
        """Add a point that is about to be evaluated."""
        with quiet():
            self._client.attach_trial(_encode(self._space, parameters))

    def ask(self, n: int) -> list[dict[str, ParameterValue]]:
        """Propose up to `n` points, all different and new; they count as pending from now on.

        Raises:
            SearchError: The model could not be fitted, or finds nothing new.
        """
        try:
            with quiet(), _one_thread():
                trials = self._client.get_next_trials(n)
        except Exception as exc:  # whatever goes wrong in there costs a quasi-random point, not the night
            raise SearchError(f"{type(exc).__name__}: {str(exc).strip() or 'no reason given'}") from exc
        asked = [(index, _decode(self._space, parameters)) for index, parameters in trials.items()]
        self._asked += asked
        points = [point for _, point in asked]
        return [point for i, point in enumerate(points) if point not in points[:i]]  # Ax may repeat itself in a batch

    def tell_repeat(self, parameters: Mapping[str, ParameterValue], known: TrialRecord) -> None:
        """Say what is known of a point that was just proposed: its network is that of an earlier trial.

        Args:
            parameters: As `ask` returned them.
            known: The earlier trial; unfinished, it tells no more than that the point needs no trial of its own.
        """
        outcome = self._goal.outcome(known)
        with quiet():
            for index in [index for index, point in self._asked if point == parameters]:
                if outcome is not None:
                    self._client.complete_trial(index, outcome)
                else:
                    self._client.mark_trial_abandoned(index)
        self._asked = [(index, point) for index, point in self._asked if point != parameters]

    def to_json(self) -> dict[str, Any]:
        """Return what `ax.Client.load_from_json_file` reads, for whoever wants to look at the study with Ax."""
        with quiet(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "ax.json")
            self._client.save_to_json_file(str(path))
            snapshot: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return snapshot

    def fit(self) -> AxModel:
        """Fit a model to what is known, and return it.

        Raises:
            SearchError: It cannot be fitted.
        """
        experiment = self._client._experiment  # Ax's own analyses, which may fit a model, return pictures
        try:
            with quiet(), _one_thread():
                adapter = Generators.BOTORCH_MODULAR(experiment=experiment, data=experiment.lookup_data())
        except Exception as exc:  # whatever goes wrong in there costs a figure, not the report
            raise SearchError(f"{type(exc).__name__}: {str(exc).strip() or 'no reason given'}") from exc
        assert isinstance(adapter, TorchAdapter)
        return AxModel(self._space, adapter)


class AxModel:
    """Ax's model of a study's metrics, to be looked at."""

    def __init__(self, space: Space, adapter: TorchAdapter) -> None:
        """Look at a model that is fitted."""
        self._space = space
        self._adapter = adapter

    def sobol_indices(self, num_samples: int) -> dict[str, dict[str, tuple[float, float]]]:
        """Return metric -> parameter -> Sobol indices of first order and total (Saltelli et al. 2008, ch. 4).

        Args:
            num_samples: Of the Monte-Carlo estimate, whose error lets an index fall below 0; then it counts as 0.
        """
        with quiet(), _one_thread():
            first, total = (
                ax_parameter_sens(self._adapter, order=order, signed=False, num_mc_samples=num_samples)
                for order in ("first", "total")
            )
        return {
            metric.removeprefix("m_"): {
                p.name: (_share(first[metric], p.name), _share(total[metric], p.name)) for p in self._space.parameters
            }
            for metric in first
        }

    def predict(self, points: Sequence[Mapping[str, ParameterValue]]) -> list[dict[str, tuple[float, float]]]:
        """Return, for each point, metric -> mean and standard error of what the model expects there."""
        features = [ObservationFeatures(parameters={**_encode(self._space, point)}) for point in points]
        with quiet(), _one_thread():
            means, covariances = self._adapter.predict(features)
        return [
            {
                metric.removeprefix("m_"): (float(mean[i]), math.sqrt(max(covariances[metric][metric][i], 0.0)))
                for metric, mean in means.items()
            }
            for i in range(len(points))
        ]


def _data_rows(experiment: Experiment, index: int, outcome: Outcome) -> list[DataRow]:
    """Return what is known of a trial as Ax keeps it."""
    (arm,) = experiment.trials[index].arms
    signatures = {name: metric.signature for name, metric in experiment.metrics.items()}
    rows: list[DataRow] = raw_evaluations_to_data({arm.name: outcome}, signatures, index)._data_rows
    return rows


def _share(indices: Mapping[str, Any], parameter: str) -> float:
    """Return the index of a parameter; of a choice without order, which has a feature for each value, the sum."""
    parts = [float(v) for name, v in indices.items() if name.partition("_OH_PARAM_")[0] == parameter]
    return max(math.fsum(parts), 0.0)


def _bayes_alone() -> GenerationStrategy:
    """Return Ax's default model without its own quasi-random start, which is not repeatable, nor its fallback."""
    spec = GeneratorSpec(
        generator_enum=Generators.BOTORCH_MODULAR,
        generator_gen_kwargs={"model_gen_options": {"optimizer_kwargs": _OPTIMIZER_OPTIONS}},
    )
    node = GenerationNode(name="bayes", generator_specs=[spec], should_deduplicate=True, fallback_specs={})
    return GenerationStrategy(name="bayes", nodes=[node])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: the matrices are small, and on busy cores two threads take ten times as long."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _ax_parameter(parameter: Parameter) -> RangeParameterConfig | ChoiceParameterConfig:
    """Describe a parameter to Ax; a choice of numbers is a range of positions: Ax's ordered choices take far longer."""
    name = parameter.name
    if not isinstance(parameter, ChoiceParameter):
        return RangeParameterConfig(
            name=name,
            bounds=(parameter.low, parameter.high),
            parameter_type="float" if isinstance(parameter, FloatParameter) else "int",
            scaling="log" if parameter.is_log else "linear",
        )
    if parameter.is_ordered:
        return RangeParameterConfig(name=name, bounds=(0, len(parameter.values) - 1), parameter_type="int")
    positions = [str(i) for i in range(len(parameter.values))]
    return ChoiceParameterConfig(name=name, values=positions, parameter_type="str", is_ordered=False)


def _encode(space: Space, values: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    return {p.name: _to_ax(p, values[p.name]) for p in space.parameters}


def _to_ax(parameter: Parameter, value: ParameterValue) -> ParameterValue:
    if isinstance(parameter, FloatParameter):
        return float(value)
    if not isinstance(parameter, ChoiceParameter):
        return value
    position = parameter.values.index(value)
    return position if parameter.is_ordered else str(position)


def _decode(space: Space, values: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    return space.with_fixed({p.name: _from_ax(p, values[p.name]) for p in space.parameters})


def _from_ax(parameter: Parameter, value: ParameterValue) -> ParameterValue:
    return parameter.values[int(value)] if isinstance(parameter, ChoiceParameter) else value
