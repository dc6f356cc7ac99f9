"""What all records have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """What is written as JSON."""

    # NaN (a diverged training's loss) is written as "NaN": JSON has none, and null could not be read back.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class Interval(Record):
    """An estimate with its 95 % interval; `low <= estimate <= high`."""

    estimate: float
    low: float
    high: float
    standard_error: float

    @property
    def half_width(self) -> float:
        """Half the interval's width, relative to the estimate."""
        return (self.high - self.low) / 2 / self.estimate
