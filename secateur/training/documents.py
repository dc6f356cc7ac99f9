"""Dataclasses from JSON that somebody else may have written: every key and type is checked."""

from __future__ import annotations

import dataclasses
import itertools
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from secateur.errors import JobError, did_you_mean

T = TypeVar("T")


def from_json(kind: type[T], value: object, where: str) -> T:
    """Make a dataclass of what `json.loads` returned.

    Args:
        kind: A dataclass whose fields are numbers, texts, literals, dataclasses, tuples of them, or None.
        value: A JSON object with a key for each field that has no default.
        where: Begins every message.

    Raises:
        JobError: A key is missing or unknown, or a value is of another type.
    """
    if not isinstance(value, Mapping):
        raise JobError(f"{where}: expected a JSON object, got {value!r:.80}.")
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(value.keys() - fields.keys()):
        raise JobError(f"{where}: unknown key {unknown[0]!r}.{did_you_mean(unknown[0], fields)}")
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    if missing := sorted(required - value.keys()):
        raise JobError(f"{where}: {missing[0]!r} is missing.")
    return kind(**{name: _checked(hints[name], item, f"{where}: {name}") for name, item in value.items()})


def _checked(hint: Any, value: object, where: str) -> Any:
    """Return `value` as `hint` says; JSON has neither tuples nor, always, a difference between 1.0 and 1."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return from_json(hint, value, where)
    if origin in (Union, types.UnionType):
        (present,) = (argument for argument in arguments if argument is not types.NoneType)
        return None if value is None else _checked(present, value, where)
    if origin is Literal:
        is_right = value in arguments
    elif origin is tuple:
        is_right = isinstance(value, list) and (arguments[-1] is ... or len(value) == len(arguments))
        if isinstance(value, list) and is_right:
            of_each = itertools.repeat(arguments[0], len(value)) if arguments[-1] is ... else arguments
            pairs = zip(of_each, value, strict=True)
            return tuple(_checked(of, item, f"{where}[{i}]") for i, (of, item) in enumerate(pairs))
    elif hint is float:
        is_right = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        is_right = type(value) is hint
    if not is_right:
        expected = getattr(hint, "__name__", str(hint)) if origin is None else str(hint).replace("typing.", "")
        raise JobError(f"{where}: expected {expected}, got {value!r:.80}.")
    return value
