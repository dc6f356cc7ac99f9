"""What a sensitivity analysis finds out; see `secateur.results`."""

from __future__ import annotations

import math
from typing import Literal

from secateur.results import DeviceFingerprint, Interval, Record, Scores


class SensitivityPoint(Record):
    """The network after one structure alone has lost some of its filters; nothing is retrained."""

    sparsity: float
    """As asked for; what was reached is `num_removed` of `num_filters`."""
    num_removed: int
    top1: float
    top5: float
    loss: float
    num_params: int
    macs: int
    latency_ratio: Interval | None
    """To the unpruned network; None where no device was given."""
    is_noisy: bool = False


class LayerSensitivity(Record):
    """What becomes of a network when these convolutions alone are pruned."""

    layers: tuple[str, ...]
    """One convolution; or several, which can only lose the same filters: their outputs are added up."""
    num_filters: int
    points: tuple[SensitivityPoint, ...]
    """By sparsity, ascending."""

    @property
    def name(self) -> str:
        """The first layer's, and how many follow it."""
        return self.layers[0] if len(self.layers) == 1 else f"{self.layers[0]} (+{len(self.layers) - 1})"

    def cost(self, unpruned_top1: float) -> float:
        """Return what pruning it alone costs: the mean loss of top1 over all points, in points of top1."""
        return math.fsum(unpruned_top1 - point.top1 for point in self.points) / len(self.points)


class Sensitivity(Record):
    """A sensitivity analysis (Li et al. 2017, sec. 3.2): each structure of a network pruned alone."""

    schema_version: Literal[1] = 1
    model: str
    dataset: str
    unpruned: Scores
    """On the same images."""
    num_params: int
    macs: int
    device: DeviceFingerprint | None
    units: tuple[LayerSensitivity, ...]
    """In the network's order."""
    left_out: dict[str, str]
    """Convolution -> why it cannot be pruned."""
