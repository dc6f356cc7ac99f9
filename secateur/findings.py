"""What `secateur staircase`, `explain` and `premise` find out; written as JSON, and the only source of their pages.

Times are in milliseconds, sizes in bytes; MACs are multiply-accumulates of one image.
"""

from __future__ import annotations

from typing import Literal

from secateur.results import DeviceFingerprint, Interval, Record

_SIGNIFICANCE = 0.05


class StaircasePoint(Record):
    """The network with some of one structure's filters."""

    num_kept: int
    desired_sparsity: float
    """What a pruner is asked for, to leave so many."""
    latency_ratio: Interval
    """To the unpruned network."""
    is_noisy: bool


class Step(Record):
    """Successive numbers of filters between which no difference in latency is seen."""

    fewest: int
    most: int
    latency_ratio: float
    """Mean of its points, each weighted by its precision."""
    standard_error: float
    is_worthwhile: bool
    """No step with more filters is as fast."""


class Staircase(Record):
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


class LayerCost(Record):
    """What one layer costs in one network, and what it would cost at the roof (Williams et al. 2009, Roofline)."""

    ms: float
    kernel: str
    """The device's own word for its implementation."""
    num_bytes: int
    """Of its weights, inputs (a residual sum's included) and outputs, in the precision it ran in; each moved once."""
    macs: int
    arithmetic_ms: float
    """At the device's best rate of multiply-accumulates."""
    memory_ms: float
    """What the device takes to copy as many bytes."""

    @property
    def intensity(self) -> float:
        """MACs a byte."""
        return self.macs / self.num_bytes

    @property
    def bound(self) -> Literal["arithmetic", "memory"]:
        """What alone would take longer."""
        return "arithmetic" if self.arithmetic_ms >= self.memory_ms else "memory"

    @property
    def attained(self) -> float:
        """Time at the roof / time taken; above 1 where the layer finds its data in a nearer cache than a copy does."""
        return max(self.arithmetic_ms, self.memory_ms) / self.ms


class LayerComparison(Record):
    """One layer before and after pruning."""

    name: str
    shape: tuple[int, ...]
    """Of its weight."""
    thinned_shape: tuple[int, ...] | None
    """None where it went with its residual block."""
    unpruned: LayerCost
    thinned: LayerCost | None

    @property
    def is_smaller(self) -> bool:
        """It lost filters or input channels, or went as a whole."""
        return self.thinned_shape != self.shape

    @property
    def thinned_ms(self) -> float:
        """Its time in the thinned network."""
        return 0.0 if self.thinned is None else self.thinned.ms


class Copy(Record):
    """A network that does nothing but read numbers and write as many."""

    num_bytes: int
    """Read and written."""
    ms: float


class Roof(Record):
    """The best that the device was seen to do, in the precision of the networks."""

    macs_per_s: float
    copies: tuple[Copy, ...]
    """By size, ascending: small ones stay in a cache."""


class StorageComparison(Record):
    """One layer's matrix product on this host's CPU, its weights dense and as compressed sparse rows (CSR), f32."""

    layers: tuple[str, ...]
    """That have this shape."""
    shape: tuple[int, int, int]
    """Filters, weights of each, positions: the sizes of the product by im2col."""
    desired_sparsity: float | None
    """The fraction of weights, the smallest, that were made zero; None: the zeros are the schedule's own."""
    sparsity: float
    dense_ms: float
    csr_ms: float


class NetworkCost(Record):
    """A network against the unpruned one."""

    latency_ratio: Interval
    is_noisy: bool
    macs: int
    device_ms: float | None
    """By the device's counters; None where it keeps none."""
    other_ms: float
    """Of operations without weights."""


class Explanation(Record):
    """Why pruning shortens inference on a device, or does not."""

    schema_version: Literal[1] = 1
    model: str
    schedule: str
    input_size: int
    device: DeviceFingerprint
    unpruned: NetworkCost
    """Against itself: what the measurement calls equal."""
    masked: NetworkCost
    """What goes is zero, all shapes as before."""
    thinned: NetworkCost
    """What goes is gone."""
    layers: tuple[LayerComparison, ...]
    """With weights, in the network's order; none where the device keeps no counters."""
    roof: Roof | None
    storage: tuple[StorageComparison, ...]
    """By shape and sparsity."""
    num_threads: int
    """Of the products in `storage`."""
    versions: dict[str, str]


class TrainedTwin(Record):
    """A trained network against itself before it was trained."""

    trial: str
    latency_ratio: Interval
    """Trained / untrained."""
    is_noisy: bool


class Premise(Record):
    """Whether a network's latency is a matter of its shape: two one-sided tests (TOST, Schuirmann 1987)."""

    schema_version: Literal[1] = 1
    twins: tuple[TrainedTwin, ...]
    tolerance: float
    """Relative; a mean change within it counts as none."""
    mean_ratio: Interval
    """Geometric, over the networks; its interval is the 90 % one, which lies within the tolerance if and only if both
    tests reject at 5 %."""
    spread: float
    """Standard deviation of the logarithm of the ratio from network to network, measurement noise included."""
    p_value: float
    """The greater of the two tests'."""
    device: DeviceFingerprint

    @property
    def holds(self) -> bool:
        """Training does not change latency: the two are equivalent."""
        return self.p_value < _SIGNIFICANCE

    @property
    def largest_change(self) -> float:
        """The most that any network's latency changed, relatively: a gate's margin."""
        return max(abs(twin.latency_ratio.estimate - 1) for twin in self.twins)
