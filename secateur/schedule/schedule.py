"""Distiller's compression schedule: which class acts on which layers, in which epochs (SPEC sections 1 and 2)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from secateur.config.fields import ParameterValue
from secateur.config.located import Located, Location, load_yaml
from secateur.errors import ScheduleError, did_you_mean
from secateur.methods import KINDS, METHODS, REFUSED, Epochs, Kind, Method, Pruner, argument_problems
from secateur.methods.elementwise import LevelPruner
from secateur.schedule.options import NoOptions, Options, PruningOptions, RegularizationOptions

_SECTIONS: dict[str, Kind] = {
    "pruners": "pruner",
    "regularizers": "regularizer",
    "quantizers": "quantizer",
    "lr_schedulers": "lr_scheduler",
    "extensions": "extension",
}
_OPTIONS: dict[Kind, type[Options]] = {"pruner": PruningOptions, "regularizer": RegularizationOptions}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One named instance of a class."""

    name: str
    kind: Kind
    class_name: str
    arguments: Method | Mapping[str, Any]
    """A mapping for an LR scheduler: those are torch's."""
    place: str
    """File and line, for messages."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When an entry acts."""

    entry: Entry
    epochs: Epochs
    """As written; order and repetition do not matter."""
    options: Options
    place: str

    @property
    def last_epoch(self) -> int:
        """Return the epoch after which Distiller takes the policy to be over, which may not be one of its own."""
        return self.epochs.stop - 1 if isinstance(self.epochs, range) else self.epochs[-1]

    def acts_within(self, epochs: range) -> bool:
        """Tell whether the policy fires in one of `epochs`."""
        return any(epoch in self.epochs for epoch in epochs)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A whole compression schedule."""

    document: Mapping[str, Any]
    """The YAML's content."""
    source: str
    entries: Mapping[str, Entry]
    policies: tuple[Policy, ...]
    """In Distiller's order of execution: as listed, but LR schedulers last."""

    def of_kind(self, kind: Kind) -> list[Policy]:
        """Return the policies of one kind, in order."""
        return [policy for policy in self.policies if policy.entry.kind == kind]

    def base_value(self, parameter: str) -> ParameterValue:
        """Return what the schedule itself says for ``<entry>.<field>``, or else the field's default.

        Raises:
            ScheduleError: There is no such entry or field.
        """
        entry, field = self.split(parameter)
        value = self._section_of(entry).get(entry, {}).get(field)
        arguments = self.entries[entry].arguments if entry in self.entries else None
        if (
            not isinstance(value, int | float)
            and isinstance(arguments, Method)
            and field in type(arguments).model_fields
        ):
            value = getattr(arguments, field)  # a default; and YAML 1.1 takes 5e-1 for text
        if not isinstance(value, int | float | str) or field == "class":
            near = did_you_mean(parameter, self._parameters())
            raise ScheduleError(f"{self.source}: the schedule has no parameter {parameter!r}.{near}")
        return value

    def with_parameters(self, parameters: Mapping[str, ParameterValue]) -> Schedule:
        """Return a copy in which ``<entry>.<field>`` have other values.

        Raises:
            ScheduleError: A parameter does not exist, or a value is out of range.
        """
        changed = Schedule(document=copy.deepcopy(dict(self.document)), source=self.source, entries={}, policies=())
        for parameter, value in parameters.items():
            self.base_value(parameter)
            entry, field = self.split(parameter)
            changed._section_of(entry)[entry][field] = value
        return parse_schedule(Located(value=changed.document, source=self.source))

    def split(self, parameter: str) -> tuple[str, str]:
        """Return the entry and the field that a parameter names; both may hold dots (``block_remover.features.5``)."""
        parts = parameter.split(".")
        splits = ((".".join(parts[:i]), ".".join(parts[i:])) for i in range(len(parts) - 1, 0, -1))
        return next((split for split in splits if self._section_of(split[0])), (parameter, ""))

    def _section_of(self, entry: str) -> dict[str, Any]:
        sections = (self.document.get(section) or {} for section in _SECTIONS)
        return next((section for section in sections if entry in section), {})

    def _parameters(self) -> list[str]:
        return [
            f"{name}.{field}"
            for section in _SECTIONS
            for name, fields in (self.document.get(section) or {}).items()
            for field, value in fields.items()
            if isinstance(value, int | float | str) and field not in {"class", "thinning_func_str", "arch", "dataset"}
        ]


def load_schedule(path: Path) -> Schedule:
    """Read a compression schedule.

    Raises:
        ScheduleError: With every problem, each at its file and line.
    """
    return parse_schedule(load_yaml(path, ScheduleError))


def parse_schedule(document: Located) -> Schedule:
    """Check a schedule's content; see `load_schedule`."""
    return _Parser(document).parse()


M = TypeVar("M", bound=BaseModel)


class _Parser:
    """Collects all problems before it gives up."""

    def __init__(self, document: Located) -> None:
        self._document = document
        self._problems: list[str] = []

    def parse(self) -> Schedule:
        value = self._document.value
        known = ["version", "policies", *_SECTIONS]
        for key in value:
            if key not in known:
                self._problem((key,), f"unknown section {key!r}.{did_you_mean(str(key), known)}")
        entries: dict[str, Entry] = {}
        for section, kind in _SECTIONS.items():
            for entry in self._entries(section, kind):
                if (other := entries.setdefault(entry.name, entry)) is not entry:
                    text = f"{kind} {entry.name!r}: {other.kind} at {other.place} has the same name; rename one."
                    self._problem((section, entry.name), text)
        policies = self._policies(entries)
        if self._problems:
            raise ScheduleError(*self._problems)
        policies.sort(key=lambda policy: policy.entry.kind == "lr_scheduler")  # stable: the others keep their order
        return Schedule(document=value, source=self._document.source, entries=entries, policies=tuple(policies))

    def _problem(self, location: Location, text: str) -> None:
        self._problems.append(f"{self._document.at(location)}: {text}")

    def _entries(self, section: str, kind: Kind) -> list[Entry]:
        content = self._document.value.get(section)
        if content is None:
            return []
        if not isinstance(content, dict):
            self._problem((section,), f"{section!r}: expected a mapping of names to entries, got {content!r}.")
            return []
        entries = (self._entry(section, kind, str(name), fields) for name, fields in content.items())
        return [entry for entry in entries if entry is not None]

    def _entry(self, section: str, kind: Kind, name: str, fields: Any) -> Entry | None:
        location = (section, name)
        if not isinstance(fields, dict) or not isinstance(fields.get("class"), str):
            self._problem(location, f"{kind} {name!r}: expected a mapping with a 'class', got {fields!r}.")
            return None
        class_name = fields["class"]
        if class_name in REFUSED:
            self._problem(
                (*location, "class"), f"{kind} {name!r}: {class_name} is not supported: {REFUSED[class_name]}."
            )
            return None
        if KINDS.get(class_name) != kind:
            known = [known for known, its_kind in KINDS.items() if its_kind == kind]
            hint = (
                f" It is a class of {KINDS[class_name]}s." if class_name in KINDS else did_you_mean(class_name, known)
            )
            self._problem((*location, "class"), f"{kind} {name!r}: there is no {kind} class {class_name!r}.{hint}")
            return None
        arguments = {str(key): value for key, value in fields.items() if key != "class"}
        checked: Method | dict[str, Any] | None = arguments
        if kind == "lr_scheduler":
            for problem in argument_problems(class_name, arguments):
                self._problem(location, f"{kind} {name!r}: {class_name} {problem}.")
        else:
            checked = self._validated(METHODS[class_name], arguments, location, f"{kind} {name!r}")
        if checked is None:
            return None
        return Entry(name=name, kind=kind, class_name=class_name, arguments=checked, place=self._document.at(location))

    def _validated(self, model: type[M], fields: Any, location: Location, what: str) -> M | None:
        try:
            return model.model_validate(fields)
        except ValidationError as exc:
            for error in exc.errors(include_url=False):
                self._argument_problem(location, what, list(model.model_fields), dict(error))
            return None

    def _argument_problem(self, location: Location, what: str, known: list[str], error: dict[str, Any]) -> None:
        # Some parts of pydantic's locations nobody wrote: "[key]".
        loc = tuple(part for part in error["loc"] if part != "[key]")
        field = ".".join(part for part in loc if isinstance(part, str))
        reason = error["msg"].removeprefix("Value error, ").rstrip(".")
        match error["type"]:
            case "extra_forbidden" if len(loc) == 1:
                text = f"unknown argument {field!r}.{did_you_mean(field, known)}"
            case "extra_forbidden":
                text = f"unknown argument {field!r}."
            case "missing":
                text = f"{field!r} is missing."
            case "value_error" if not loc:  # of the arguments together
                text = f"{reason}."
            case _:
                text = f"{field} {reason[0].lower()}{reason[1:]}, got {error['input']!r}.".lstrip()
        self._problem((*location, *loc), f"{what}: {text}")

    def _policies(self, entries: Mapping[str, Entry]) -> list[Policy]:
        content = self._document.value.get("policies")
        if not isinstance(content, list):
            self._problem(("policies",), f"'policies': expected a list (it may be empty), got {content!r}.")
            return []
        policies = (self._policy(index, fields, entries) for index, fields in enumerate(content))
        return [policy for policy in policies if policy is not None]

    def _policy(self, index: int, fields: Any, entries: Mapping[str, Entry]) -> Policy | None:
        location: Location = ("policies", index)
        kinds = [kind for kind in _SECTIONS.values() if isinstance(fields, dict) and kind in fields]
        if not kinds:
            self._problem(location, f"policy: expected one of {', '.join(_SECTIONS.values())}, got {fields!r}.")
            return None
        kind = kinds[0]
        reference = fields[kind]
        name = reference.get("instance_name") if isinstance(reference, dict) else None
        if name is None:
            self._problem((*location, kind), f"policy: expected {kind}: {{instance_name: ...}}, got {reference!r}.")
            return None
        args = {} if reference.get("args") is None else reference["args"]
        options = self._validated(_OPTIONS.get(kind, NoOptions), args, (*location, kind, "args"), f"policy of {name!r}")
        sections = (self._document.value.get(section) for section, its_kind in _SECTIONS.items() if its_kind == kind)
        declared = [str(name) for section in sections if isinstance(section, dict) for name in section]
        if str(name) not in declared:
            near = did_you_mean(str(name), declared)
            self._problem((*location, kind), f"policy: {kind} {name!r} is not defined.{near}")
        epochs = self._epochs(location, fields)
        entry = entries.get(str(name))
        if epochs is None or entry is None or options is None or entry.kind != kind:
            return None
        if isinstance(entry.arguments, Pruner):
            for problem in entry.arguments.epoch_problems(epochs):
                self._problem(location, f"policy of {name!r}: {entry.class_name} {problem}.")
        if isinstance(options, PruningOptions) and options.levels and not isinstance(entry.arguments, LevelPruner):
            text = f"policy of {name!r}: 'levels' are for SparsityLevelParameterPruner, not for {entry.class_name}."
            self._problem((*location, kind, "args", "levels"), text)
        return Policy(entry=entry, epochs=epochs, options=options, place=self._document.at(location))

    def _epochs(self, location: Location, fields: Mapping[str, Any]) -> range | tuple[int, ...] | None:
        if "epochs" in fields:
            epochs = fields["epochs"]
            if not isinstance(epochs, list) or not epochs or not all(type(e) is int for e in epochs):
                self._problem((*location, "epochs"), f"'epochs': expected a list of numbers, got {epochs!r}.")
                return None
            return tuple(epochs)
        keys = ("starting_epoch", "ending_epoch", "frequency")
        if missing := [key for key in keys if type(fields.get(key)) is not int]:
            self._problem(location, f"policy: expected 'epochs', or integers for {', '.join(keys)}; check {missing}.")
            return None
        start, end, frequency = (fields[key] for key in keys)
        if not (0 <= start < end and 0 < frequency <= end - start):
            self._problem(
                location,
                "policy: expected 0 <= starting_epoch < ending_epoch and 0 < frequency <= their distance, "
                f"got {start}, {end}, {frequency}.",
            )
            return None
        return range(start, end, frequency)
