"""The search space: what each parameter may be, its grid, and its map from the unit cube."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from secateur.config import Choice, Counts, Fixed, ParameterValue, Range, Search
from secateur.errors import StudyError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class FloatParameter:
    """A real number in ``[low, high]``."""

    name: str
    low: float
    high: float
    step: float | None = None
    """Between the values of a grid; other methods do not look at it."""
    is_log: bool = False
    """Equal factors are equal distances."""

    def from_unit(self, u: float) -> float:
        """Map ``[0, 1)`` onto the interval."""
        value = self.low * math.pow(self.high / self.low, u) if self.is_log else self.low + u * (self.high - self.low)
        return min(max(value, self.low), self.high)

    def to_unit(self, value: ParameterValue) -> float:
        """Return the place in ``[0, 1]`` that is mapped onto a value of the interval."""
        x = float(value)
        if self.is_log:
            return math.log(x / self.low) / math.log(self.high / self.low)
        return (x - self.low) / (self.high - self.low)

    def grid(self) -> list[float]:
        """Return the values ``low + i * step`` up to and including `high`."""
        return [float(value) for value in _steps(self)]

    def __contains__(self, value: ParameterValue) -> bool:
        return not isinstance(value, str) and self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class IntParameter:
    """A whole number in ``[low, high]``."""

    name: str
    low: int
    high: int
    step: int | None = None
    """Between the values of a grid; other methods do not look at it."""
    is_log: bool = False
    """Equal factors are equal distances; `low` is above 0."""

    def from_unit(self, u: float) -> int:
        """Map ``[0, 1)`` onto the numbers, each an equal part of it; or that of [n, n + 1) on a logarithmic axis."""
        if self.is_log:
            return min(math.floor(self.low * math.pow((self.high + 1) / self.low, u)), self.high)
        return min(self.low + math.floor(u * (self.high - self.low + 1)), self.high)

    def to_unit(self, value: ParameterValue) -> float:
        """Return the middle of what is mapped onto a value of the range."""
        middle = float(value) + 0.5
        if self.is_log:
            return math.log(middle / self.low) / math.log((self.high + 1) / self.low)
        return (middle - self.low) / (self.high - self.low + 1)

    def grid(self) -> list[int]:
        """Return the values ``low + i * step`` up to and including `high`."""
        return [int(value) for value in _steps(self)]

    def __contains__(self, value: ParameterValue) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class ChoiceParameter:
    """One of several values; numbers have an order, names have none."""

    name: str
    values: tuple[ParameterValue, ...]
    """At least two, all different; numbers ascend."""

    @property
    def is_ordered(self) -> bool:
        """All values are numbers."""
        return not any(isinstance(value, str) for value in self.values)

    def from_unit(self, u: float) -> ParameterValue:
        """Map ``[0, 1)`` onto the values, each an equal part of it."""
        return self.values[min(math.floor(u * len(self.values)), len(self.values) - 1)]

    def to_unit(self, value: ParameterValue) -> float:
        """Return the middle of what is mapped onto a value."""
        return (self.values.index(value) + 0.5) / len(self.values)

    def grid(self) -> list[ParameterValue]:
        """Return the values."""
        return list(self.values)

    def __contains__(self, value: ParameterValue) -> bool:
        return value in self.values


Parameter = FloatParameter | IntParameter | ChoiceParameter


@dataclass(frozen=True)
class Space:
    """What a search may set."""

    parameters: tuple[Parameter, ...]
    """What varies: the axes of the unit cube."""
    fixed: Mapping[str, ParameterValue] = field(default_factory=dict)
    """What is the same at every point."""

    @classmethod
    def from_search(cls, search: Search, base_values: Mapping[str, ParameterValue | None]) -> Space:
        """Build the space of a study.

        Args:
            search: What is varied; see `Search.parameters`.
            base_values: What the study itself says for each of them. A range is one of whole numbers if its ends and
                that value are whole.

        Raises:
            StudyError: The study has no such field, or a whole number is to be varied in broken steps.
        """
        for name in search.parameters:
            if name not in base_values:
                near = did_you_mean(name, base_values)
                raise StudyError(f"search.parameters: the study has no number or name called {name!r}.{near}")
        varied = {name: wanted for name, wanted in search.parameters.items() if not isinstance(wanted, Fixed)}
        return cls(
            tuple(_parameter(name, wanted, base_values[name]) for name, wanted in varied.items()),
            {name: wanted.value for name, wanted in search.parameters.items() if isinstance(wanted, Fixed)},
        )

    def from_unit(self, point: Sequence[float]) -> dict[str, ParameterValue]:
        """Map a point of the unit cube, one coordinate in ``[0, 1)`` an axis, to parameter values."""
        return self.with_fixed({p.name: p.from_unit(float(u)) for p, u in zip(self.parameters, point, strict=True)})

    def to_unit(self, values: Mapping[str, ParameterValue]) -> list[float]:
        """Return a place in the unit cube that is mapped onto a point of the space."""
        return [p.to_unit(values[p.name]) for p in self.parameters]

    def with_fixed(self, values: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
        """Complete the values of what varies to a point of the space."""
        return {**values, **self.fixed}

    def __contains__(self, values: Mapping[str, ParameterValue]) -> bool:
        return (
            values.keys() == {p.name for p in self.parameters} | self.fixed.keys()
            and all(values[p.name] in p for p in self.parameters)
            and all(values[name] == value for name, value in self.fixed.items())
        )


def grid_points(space: Space) -> Iterator[dict[str, ParameterValue]]:
    """Yield all points of the grid, the last parameter varying fastest."""
    names = [p.name for p in space.parameters]
    for values in itertools.product(*(p.grid() for p in space.parameters)):
        yield space.with_fixed(dict(zip(names, values, strict=True)))


def _parameter(name: str, wanted: Range | Choice | Counts, base: ParameterValue | None) -> Parameter:
    assert not isinstance(wanted, Counts), "a study is checked before it is searched: its counts are values by then"
    if isinstance(wanted, Choice):
        values = tuple(dict.fromkeys(wanted.values))
        choice = ChoiceParameter(name=name, values=values)
        # Numbers in order, so that neighbours in the list are neighbours in value.
        return ChoiceParameter(name=name, values=tuple(sorted(values))) if choice.is_ordered else choice
    low, high, step = wanted.min, wanted.max, wanted.step
    if isinstance(low, int) and isinstance(high, int) and isinstance(base, int):
        if step is not None and not float(step).is_integer():
            raise StudyError(
                f"search.parameters.{name}: the study's own value is the whole number {base!r}, "
                f"so the step must be whole, got {step!r}."
            )
        step = None if step is None else int(step)
        return IntParameter(name=name, low=low, high=high, step=step, is_log=wanted.log)
    step = None if step is None else float(step)
    return FloatParameter(name=name, low=float(low), high=float(high), step=step, is_log=wanted.log)


def _steps(parameter: FloatParameter | IntParameter) -> list[Decimal]:
    """Count in decimals, as the study is written: 0.1 * 3 is 0.3."""
    assert parameter.step is not None, "a study with method 'grid' has a step for each range"
    low, high, step = (Decimal(str(value)) for value in (parameter.low, parameter.high, parameter.step))
    num_steps = int((high - low) / step + Decimal("1e-9"))  # three steps of 0.3333333334 end at 1
    return [min(low + i * step, high) for i in range(num_steps + 1)]
