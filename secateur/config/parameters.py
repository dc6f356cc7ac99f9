"""What a parameter of a search may be."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag, model_validator

from secateur.config.fields import FilePath, Frozen, Number, Value
from secateur.config.located import PartError


class Range(Frozen):
    """An interval a parameter is searched in; with a `step`, a grid can be laid over it."""

    min: Number
    max: Number
    step: Annotated[Number, Field(gt=0)] | None = None
    log: bool = Field(False, description="Factors count, not differences: as many points in [1, 10] as in [10, 100].")

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min >= self.max:
            raise ValueError(f"min must be below max, got {self.min!r} and {self.max!r}")
        if self.log and self.min <= 0:
            raise PartError(("min",), f"a logarithmic range needs a min above 0, got {self.min!r}.")
        if self.log and self.step is not None:
            raise PartError(("step",), "a logarithmic range has no step: list its 'values' instead.")
        return self


class Choice(Frozen):
    """A parameter that takes one of several values."""

    values: Annotated[tuple[Value, ...], Field(min_length=2)]


class Fixed(Frozen):
    """A parameter that has one value in all trials, another than the schedule's."""

    value: Value


def _kind_of_counts(value: Any) -> str:
    return "<counts>" if isinstance(value, list | tuple) else "<file>"


class Counts(Frozen):
    """A pruner's sparsity, by the number of filters that stay in each of its layers, which are of one size."""

    counts: Annotated[
        Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2), Tag("<counts>")]
        | Annotated[FilePath, Tag("<file>")],
        Discriminator(_kind_of_counts),
    ] = Field(description="Numbers, or what `secateur staircase` wrote: STAIRCASE.json.")


def _kind_of_parameter(value: Any) -> str:
    kinds: dict[str, type] = {"values": Choice, "value": Fixed, "counts": Counts}
    for key, kind in kinds.items():
        if isinstance(value, kind) or (isinstance(value, dict) and key in value):
            return f"<{key}>"
    return "<range>"


Parameter = Annotated[
    Annotated[Range, Tag("<range>")]
    | Annotated[Choice, Tag("<values>")]
    | Annotated[Fixed, Tag("<value>")]
    | Annotated[Counts, Tag("<counts>")],
    Discriminator(_kind_of_parameter),
]
