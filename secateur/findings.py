"""What `secateur staircase` and `secateur explain` find out; written as JSON, and the only source of their pages.

Times are in milliseconds, sizes in bytes; MACs are multiply-accumulates of one image.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from secateur.results import DeviceFingerprint, Interval


class _Finding(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StaircasePoint(_Finding):
    """The network with some of one structure's filters."""

    num_kept: int
    desired_sparsity: float
    """What a pruner is asked for, to leave so many."""
    latency_ratio: Interval
    """To the unpruned network."""
    is_noisy: bool


class Step(_Finding):
    """Successive numbers of filters between which no difference in latency is seen."""

    fewest: int
    most: int
    latency_ratio: float
    """Mean of its points, each weighted by its precision."""
    standard_error: float
    is_worthwhile: bool
    """No step with more filters is as fast."""


class Staircase(_Finding):
    """Latency as a function of the number of filters of one structure."""

    schema_version: Literal[1] = 1
    model: str
    input_size: int
    layers: tuple[str, ...]
    """Convolutions that can only lose the same filters."""
    num_filters: int
    device: DeviceFingerprint
    points: tuple[StaircasePoint, ...]
    """By number of filters, ascending."""
    steps: tuple[Step, ...]
    """Likewise."""

    @property
    def name(self) -> str:
        """The first layer's, and how many follow it."""
        return self.layers[0] if len(self.layers) == 1 else f"{self.layers[0]} (+{len(self.layers) - 1})"

    @property
    def allowed(self) -> tuple[StaircasePoint, ...]:
        """The most filters of each worthwhile step: with fewer, nothing is gained until the next step."""
        most = {step.most for step in self.steps if step.is_worthwhile}
        return tuple(point for point in self.points if point.num_kept in most)
