"""Read a Weights & Biases sweep configuration as a study: the other half of what a Distiller user has.

The configuration is that of https://docs.wandb.ai/guides/sweeps/sweep-config-keys. What it says beyond a study is
noted, never dropped silently.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from secateur.config import METRICS, Training
from secateur.config.located import Located, Location
from secateur.errors import ScheduleError, StudyError, did_you_mean
from secateur.schedule import Schedule

_METRICS = {
    "latency": "latency_ms",
    "totallatency": "total_latency_ms",
    "accuracy": "top1",
    "acc": "top1",
    "valloss": "loss",
    "params": "num_params",
    "size": "size_bytes",
}
"""What metrics are often called, in small letters and nothing else -> their names here."""
_SETTINGS = {"learning_rate": "lr", "num_epochs": "epochs", "batchsize": "batch_size", "wd": "weight_decay"}
"""What settings of training are often called -> their names here."""
_SPARSITIES = ("desired_sparsity", "final_sparsity")
"""What is meant where a parameter is called as a pruner alone."""
_WITHOUT_BOUNDS = {
    "normal",
    "q_normal",
    "log_normal",
    "q_log_normal",
    "inv_log_uniform",
    "inv_log_uniform_values",
    "beta",
}
_MAX_VALUES = 1000


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A sweep configuration as a study."""

    study: Located
    """The document, its values at their places in the configuration."""
    notes: tuple[str, ...]
    """What the study does not say, or says otherwise."""


def translate(
    sweep: Located,
    schedule: Schedule,
    schedule_path: str,
    *,
    name: str,
    model: str | None = None,
    dataset: str | None = None,
    renamed: Mapping[str, str] = {},
) -> Translation:
    """Make a study of a W&B sweep configuration.

    Args:
        sweep: The configuration.
        schedule: What its parameters are set in.
        schedule_path: How the study names it.
        name: The study's, unless the sweep has one.
        model: By default the schedule's own ``arch``.
        dataset: By default the schedule's own.
        renamed: Parameter of the sweep -> ``<entry>.<field>`` or ``training.<field>``.

    Raises:
        StudyError: With everything that has no counterpart and cannot be left out.
    """
    return _Translator(sweep, schedule, renamed).translate(schedule_path, name, model, dataset)


@dataclass
class _Translator:
    """Collects all problems before it gives up."""

    sweep: Located
    schedule: Schedule
    renamed: Mapping[str, str]
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    places: dict[Location, str] = field(default_factory=dict)

    def translate(self, schedule_path: str, name: str, model: str | None, dataset: str | None) -> Translation:
        content = self.sweep.value
        slug = re.sub(r"[^a-z0-9._-]+", "-", str(content.get("name", name)).lower()).strip("-._") or "sweep"
        study: dict[str, Any] = {
            "name": slug,
            "model": model or self._of_extension("arch", "--model"),
            "dataset": dataset or self._of_extension("dataset", "--dataset"),
            "schedule": schedule_path,
            "search": {
                "method": content.get("method", "bayes"),
                "parameters": self._parameters(),
                "objectives": self._objectives(),
            },
        }
        if "run_cap" in content:
            study["budget"] = {"trials": content["run_cap"]}
        for key in content.keys() - {"name", "method", "parameters", "metric", "run_cap"}:
            self._note((key,), f"{key!r} has no counterpart in a study and was left out.")
        if not any(parameter.startswith("training.") for parameter in study["search"]["parameters"]):
            self.notes.append("Nothing is retrained yet (training.epochs is 0): 'training' in the study says how.")
        if self.problems:
            raise StudyError(*self.problems)
        self.places[("search", "method")] = self.sweep.at(("method",))
        located = Located(value=study, source=self.sweep.source, places=self.places)
        return Translation(study=located, notes=tuple(sorted(self.notes)))

    def _problem(self, location: Location, text: str) -> None:
        self.problems.append(f"{self.sweep.at(location)}: {text}")

    def _note(self, location: Location, text: str) -> None:
        self.notes.append(f"{self.sweep.at(location)}: {text}")

    def _of_extension(self, attribute: str, option: str) -> str:
        found = (getattr(policy.entry.arguments, attribute, "") for policy in self.schedule.of_kind("extension"))
        if value := next(filter(None, found), None):
            return str(value)
        self.problems.append(f"{self.schedule.source}: no extension says {attribute!r}: give {option}.")
        return ""

    def _objectives(self) -> dict[str, str]:
        metric = self.sweep.value.get("metric")
        if not isinstance(metric, dict) or "name" not in metric:
            self._note(("metric",), "no metric is named, so latency_ratio is minimized.")
            return {"latency_ratio": "minimize"}
        for key in metric.keys() - {"name", "goal"}:
            self._note(("metric", key), f"'metric.{key}' has no counterpart in a study and was left out.")
        wanted = str(metric["name"])
        plain = re.sub(r"[^a-z0-9]", "", wanted.rpartition("/")[2].lower())
        known = {name.replace("_", ""): name for name in METRICS} | _METRICS
        if plain not in known:
            self._problem(
                ("metric", "name"),
                f"metric {wanted!r} is not measured here.{did_you_mean(plain, known)} There are {', '.join(METRICS)}.",
            )
            return {}
        if known[plain] != wanted:
            self._note(("metric", "name"), f"metric {wanted!r} was taken for {known[plain]}.")
        self.places["search", "objectives"] = self.sweep.at(("metric",))
        return {known[plain]: str(metric.get("goal", "minimize"))}

    def _parameters(self) -> dict[str, Any]:
        content = self.sweep.value.get("parameters")
        if not isinstance(content, dict) or not content:
            self._problem(
                ("parameters",), f"'parameters': expected a mapping of names to what they may be, got {content!r}."
            )
            return {}
        found: dict[str, Any] = {}
        names: set[str] = set()
        for name, location, entry in _flattened(content, ("parameters",)):
            names.add(name)
            target = self._target(name, location)
            wanted = self._wanted(name, location, entry)
            if target is None or wanted is None:
                continue
            if target in found:
                self._problem(location, f"parameter {name!r} is {target}, which another one is already.")
            if target != name:
                self._note(location, f"parameter {name!r} was taken for {target}.")
            found[target] = wanted
            self.places["search", "parameters", target] = self.sweep.at(location)
        for name in self.renamed.keys() - names:
            self.problems.append(f"--rename {name}: the sweep has no such parameter.{did_you_mean(name, names)}")
        return found

    def _target(self, name: str, location: Location) -> str | None:
        """Return what a parameter sets: a field of the schedule, or a setting of training."""
        wanted = self.renamed.get(name, name)
        for candidate in self._candidates(wanted):
            try:
                self.schedule.base_value(candidate)
            except ScheduleError:
                continue
            return candidate
        setting = wanted.rpartition(".")[2]
        setting = _SETTINGS.get(setting, setting)
        if setting in Training.model_fields:
            return f"training.{setting}"
        near = did_you_mean(wanted, self.schedule.entries)
        self._problem(
            location,
            f"parameter {wanted!r} is neither in {self.schedule.source} nor a setting of training.{near}"
            f" --rename {name}=ENTRY.FIELD says what is meant.",
        )
        return None

    def _candidates(self, name: str) -> Iterator[str]:
        yield name
        yield from (f"{name}.{sparsity}" for sparsity in _SPARSITIES)
        for entry in self.schedule.entries:
            if name.startswith(f"{entry}_"):
                yield f"{entry}.{name.removeprefix(f'{entry}_')}"

    def _wanted(self, name: str, location: Location, entry: Any) -> dict[str, Any] | None:
        """Return what a parameter may be, as a study says it."""
        if not isinstance(entry, dict):
            self._problem(location, f"parameter {name!r}: expected a mapping, got {entry!r}.")
            return None
        known = {"value", "values", "min", "max", "q", "distribution", "probabilities"}
        for key in entry.keys() - known:
            self._problem(
                (*location, key), f"parameter {name!r}: {key!r} is not understood.{did_you_mean(str(key), known)}"
            )
        if "probabilities" in entry:
            self._note(
                location, f"parameter {name!r}: all values are equally likely here; 'probabilities' was left out."
            )
        if "value" in entry:
            return {"value": entry["value"]}
        if isinstance(values := entry.get("values"), list):
            return {"values": values} if len(values) > 1 else {"value": next(iter(values), None)}
        return self._range(name, location, entry)

    def _range(self, name: str, location: Location, entry: Mapping[str, Any]) -> dict[str, Any] | None:
        low: Any = entry.get("min")
        high: Any = entry.get("max")
        distribution = str(entry.get("distribution", "q_uniform" if "q" in entry else "uniform"))
        if distribution in _WITHOUT_BOUNDS or not (_is_number(low) and _is_number(high)):
            self._problem(
                location,
                f"parameter {name!r}: expected 'value', 'values', or numbers 'min' and 'max' of a uniform or"
                f" log_uniform distribution, got {dict(entry)!r}.",
            )
            return None
        kind = distribution.removeprefix("q_")
        if kind == "log_uniform":  # W&B's bounds are exponents here, and not in log_uniform_values
            low, high = math.exp(low), math.exp(high)
        is_log = kind in {"log_uniform", "log_uniform_values"}
        if not is_log and kind not in {"uniform", "int_uniform"}:
            self._problem(
                (*location, "distribution"), f"parameter {name!r}: distribution {distribution!r} is not known."
            )
            return None
        if distribution.startswith("q_"):
            return self._quantized(name, location, low, high, entry.get("q", 1), is_log=is_log)
        is_grid_of_ints = self.sweep.value.get("method") == "grid" and isinstance(low, int) and isinstance(high, int)
        step = {"step": 1} if is_grid_of_ints and not is_log else {}
        return {"min": low, "max": high, **step, **({"log": True} if is_log else {})}

    def _quantized(
        self, name: str, location: Location, low: float, high: float, q: Any, *, is_log: bool
    ) -> dict[str, Any] | None:
        if not _is_number(q) or q <= 0 or (high - low) / q > _MAX_VALUES:
            self._problem(
                location,
                f"parameter {name!r}: expected a 'q' above 0 that leaves {_MAX_VALUES} values at most, got {q!r}.",
            )
            return None
        step = Decimal(str(q))
        first, last = (round(Decimal(str(end)) / step) for end in (low, high))
        values = [float(i * step) for i in range(first, last + 1)]
        self._note(
            location,
            f"parameter {name!r}: multiples of {q!r} became 'values'{', all equally likely' if is_log else ''}.",
        )
        whole = [int(value) for value in values] if all(value.is_integer() for value in values) else values
        return {"values": whole} if len(whole) > 1 else {"value": whole[0]}


def _flattened(content: Mapping[str, Any], location: Location) -> Iterator[tuple[str, Location, Any]]:
    """Yield parameters with their dotted names: W&B nests them as it likes."""
    for name, entry in content.items():
        here = (*location, name)
        if isinstance(entry, dict) and isinstance(entry.get("parameters"), dict):
            for nested, place, inner in _flattened(entry["parameters"], (*here, "parameters")):
                yield f"{name}.{nested}", place, inner
        else:
            yield str(name), here, entry


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
