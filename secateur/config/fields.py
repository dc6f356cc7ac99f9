"""What several parts of a study are made of: frozen models, numbers, paths relative to the study's file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo


class Frozen(BaseModel):
    """A part of a study."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def relative_to_file(value: Any, info: ValidationInfo) -> Any:
    """Resolve a path against the study file's folder, given as validation context."""
    if isinstance(value, str | Path) and (base := (info.context or {}).get("base")):
        return Path(base, Path(value).expanduser())
    return value


def _check_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("expected a number")
    return value


def _check_number_or_text(value: Any) -> Any:
    return value if isinstance(value, str) else _check_number(value)


FilePath = Annotated[Path, BeforeValidator(relative_to_file)]
Number = Annotated[int | float, BeforeValidator(_check_number)]
ParameterValue = int | float | str
"""What a search sets in a schedule, or in the settings of training."""
Value = Annotated[ParameterValue, BeforeValidator(_check_number_or_text)]
