"""Outcome constraints: ``metric (<=|>=) number | [baseline|off_the_shelf] [(+|-) number]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

_GRAMMAR = re.compile(
    r"""\s*(?P<metric>[A-Za-z_]\w*)\s*(?P<operator><=|>=)\s*
        (?:(?P<reference>baseline|off_the_shelf)(?:\s*(?P<sign>[+-])\s*(?P<offset>\d+(?:\.\d*)?))?
          |(?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?))\s*""",
    re.VERBOSE,
)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A bound on one metric, absolute or relative to a baseline."""

    metric: str
    operator: Literal["<=", ">="]
    reference: Literal["baseline", "off_the_shelf"] | None
    offset: float
    """Added to the reference; the bound itself if there is none."""

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Parse one constraint.

        Raises:
            ValueError: The text does not follow the grammar.
        """
        if not (match := _GRAMMAR.fullmatch(text)):
            raise ValueError(
                f"expected 'metric >= number' or 'metric >= baseline - number' "
                f"(<= likewise, off_the_shelf likewise), got {text!r}"
            )
        offset = float(match["number"] or match["offset"] or 0.0)
        return cls(
            metric=match["metric"],
            operator=cast(Literal["<=", ">="], match["operator"]),
            reference=cast(Literal["baseline", "off_the_shelf"] | None, match["reference"]),
            offset=-offset if match["sign"] == "-" else offset,
        )

    def bound(self, baselines: Mapping[str, Mapping[str, float]]) -> float:
        """Return the number that the metric is compared to.

        Args:
            baselines: Metrics of ``"baseline"`` (the unpruned network) and of ``"off_the_shelf"``.

        Raises:
            KeyError: The reference was not measured, or lacks the metric.
        """
        return self.offset if self.reference is None else baselines[self.reference][self.metric] + self.offset

    def holds(self, metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]]) -> bool:
        """Tell whether `metrics` satisfy the constraint; an absent or NaN metric does not."""
        value = metrics.get(self.metric, float("nan"))
        bound = self.bound(baselines)
        return value <= bound if self.operator == "<=" else value >= bound
