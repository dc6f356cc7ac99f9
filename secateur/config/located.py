"""YAML with the line of every value, so that an error can point at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from secateur.errors import InputError, did_you_mean

Location = tuple[str | int, ...]
M = TypeVar("M", bound=BaseModel)


class PartError(ValueError):
    """Raised by a validator of a whole model, for one part of it."""

    def __init__(self, location: Location, text: str) -> None:
        """Say what is wrong at `location`, counted from the model."""
        super().__init__(text)
        self.location = location


@dataclass(frozen=True, kw_only=True)
class Located:
    """A parsed YAML document and where its values stand."""

    value: Any
    source: str
    """The file's name as the user gave it."""
    places: dict[Location, str] = field(default_factory=dict)
    """Path of keys and indices -> ``file:line``, lines counted from 1; or the option that set the value."""

    def at(self, location: Location) -> str:
        """Return the place of the innermost known part of `location`."""
        for length in range(len(location), -1, -1):
            if location[:length] in self.places:
                return self.places[location[:length]]
        return self.source


def load_yaml(path: Path, error: type[InputError]) -> Located:
    """Read one YAML mapping, safely.

    Raises:
        InputError: As `error`: the file is absent, unreadable, not YAML, or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [str(path.with_name(p.name)) for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise error(f"{path}: there is no such file.{did_you_mean(str(path), siblings)}") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise error(f"{path}: cannot be read: {exc}.") from None
    return parse_yaml(text, str(path), error)


def parse_yaml(text: str, source: str, error: type[InputError]) -> Located:
    """Parse one YAML mapping; see `load_yaml`."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        document = Located(value=yaml.safe_load(text), source=source)
        if node is not None:
            _note_places(node, (), document)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise error(f"{where}: this is not YAML: {getattr(exc, 'problem', None) or exc}.") from None
    except ValueError as exc:  # such as the 45th of a month
        raise error(f"{source}: this is not YAML: {exc}.") from None
    except RecursionError:
        raise error(f"{source}: this is not YAML anyone means: it is nested too deeply.") from None
    if not isinstance(document.value, dict):
        raise error(f"{source}: expected a mapping of keys to values, got {type(document.value).__name__}.")
    return document


def _note_places(node: yaml.Node, location: Location, document: Located) -> None:
    document.places.setdefault(location, f"{document.source}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*location, key.value)
            document.places[here] = f"{document.source}:{key.start_mark.line + 1}"
            _note_places(value, here, document)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_places(item, (*location, index), document)


def validate(model: type[M], document: Located, error: type[InputError], *, base: Path | None = None) -> M:
    """Validate a document against a pydantic model.

    Args:
        model: What the document must be.
        document: What was read.
        error: What to raise.
        base: The folder that paths in the document are relative to.

    Raises:
        InputError: As `error`, with every problem, each at its file and line.
    """
    try:
        return model.model_validate(document.value, context={"base": base})
    except ValidationError as exc:
        raise error(*(_problem(model, document, dict(e)) for e in exc.errors(include_url=False))) from None


def _problem(model: type[BaseModel], document: Located, details: dict[str, Any]) -> str:
    # Some parts of pydantic's locations nobody wrote: a union's branches, tagged <...> here, and "[key]".
    location: Location = tuple(part for part in details["loc"] if not str(part).startswith(("<", "[")))
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, PartError):
        return f"{document.at((*location, *cause.location))}: {cause}"
    name = ".".join(str(part) for part in location)
    if isinstance(cause, InputError):
        what = str(cause)
    elif details["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        what = f"unknown key {name!r}.{did_you_mean(str(location[-1]), known)}"
    elif details["type"] == "missing":
        what = f"{name!r} is missing."
    else:
        reason = details["msg"].removeprefix("Value error, ").rstrip(".")
        is_told = isinstance(details["input"], dict) or ", got " in reason
        got = "" if is_told else f", got {details['input']!r}"
        what = f"{name!r}: {reason}{got}." if name else f"{reason}."
    return f"{document.at(location)}: {what}"


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Return the field names of the models that may stand at `location`."""
    models = [model]
    for part in location:
        fields = [model.model_fields[str(part)] for model in models if str(part) in model.model_fields]
        models = [nested for field in fields for nested in _models_in(field.annotation)] or models
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [nested for argument in get_args(annotation) for nested in _models_in(argument)]
