"""Latency reports: a model timed on a device. Times are in seconds unless the name says ms."""

from __future__ import annotations

from typing import Any, Literal

from secateur.results.record import Interval, Record


class Quantiles(Record):
    """Of one set of timings, in milliseconds."""

    p50: float
    p90: float
    p99: float | None = None
    """Of at least a thousand."""
    mean: float
    min: float
    num_samples: int


class Drift(Record):
    """Whether timings rose or fell while they were taken."""

    change: float
    """Median of the later half / of the earlier half - 1."""
    p_value: float
    """Of no trend: Spearman's rank correlation with time; one process's rounds."""


class Layer(Record):
    """One operation as the device runs it; fused operations stand under one name."""

    name: str
    type: str
    kernel: str
    """The device's own word for its implementation, with the precision it runs in."""
    ms: float


class DeviceFingerprint(Record):
    """The conditions of a measurement; equal fingerprints may share latencies.

    Load and temperature are conditions too, but they belong to one run: see `LatencyReport.conditions`.
    """

    profile: str
    """The profile's name."""
    device: str
    """OpenVINO's name for it: CPU, GPU, NPU; or a service's address."""
    full_name: str
    """The maker's name for it; of a service, its own."""
    runtime: str
    """OpenVINO's version, or the service's."""
    num_threads: int | None
    """As the runtime says, not as the profile asks; None where there are none."""
    precision: str
    """As the runtime says, not as the profile asks: f32, bf16, f16."""
    host: str
    python: str

    @property
    def software(self) -> str:
        """What infers, with its version."""
        return f"{self.full_name if '://' in self.device else 'OpenVINO'} {self.runtime}"


class Energy(Record):
    """What one inference takes of the host's energy, inferring back to back."""

    energy_mj: float
    """All that the sensor saw, in millijoules."""
    idle_energy_mj: float
    """What of it the idle host would have used in that time."""
    sensor: str
    """What was counted: RAPL's zones, or a sensor of hwmon. It need not see a device that is plugged in."""


class NetworkTime(Record):
    """What of a remote service's total latency is the way there and back."""

    latency_ms: float
    """Median."""
    source: Literal["statistics", "empty request"]
    """The rest beside the service's own time, or the time of a request of the same size that infers nothing."""


class Stream(Record):
    """What became of frames that arrived at a fixed rate."""

    frames_per_s: float
    """As they arrived."""
    sustained_fps: float
    """Inferences a second."""
    num_frames: int
    num_dropped: int
    """They found the queue full."""
    latency_ms: Quantiles
    """From when a frame was due to its outputs; of those that were not dropped."""


class LatencyReport(Record):
    """One model timed on one device, paired and interleaved with the unpruned network."""

    latency_ratio: Interval
    """Total latency of the model / of the reference, median of paired rounds."""
    device_latency_ratio: float | None
    """Ratio of the devices' own times; None where the device keeps no counters."""
    total_latency_ms: Quantiles
    latency_ms: float | None
    """Device latency: median of the sum of the operations' times; None where the device keeps no counters."""
    reference_total_latency_ms: Quantiles
    reference_latency_ms: float | None
    num_rounds: int
    is_noisy: bool
    """The interval stayed wider than the profile's target when the time was up."""
    num_processes: int = 1
    """Fresh processes that the rounds come from."""
    process_ratios: tuple[float, ...] = ()
    """Median ratio in each process: their spread is that of compilations."""
    ratio_drift: Drift | None = None
    reference_drift: Drift | None = None
    """Of the reference's own rounds: the host's heat, frequency and load; pairing takes it out of the ratio."""
    throughput_fps: float | None = None
    """Asynchronous, with `num_requests` at once."""
    num_requests: int | None = None
    """As many as the runtime calls optimal."""
    energy: Energy | None = None
    """None where the host does not count it."""
    network: NetworkTime | None = None
    """Of a remote service only."""
    stream: Stream | None = None
    """Where the profile wants one."""
    layers: tuple[Layer, ...] = ()
    """Empty where the device keeps no counters."""
    read_ms: float
    compile_ms: float
    first_inference_ms: float
    peak_memory_bytes: int | None = None
    """By which reading, compiling and the first inference raised the process's resident memory."""
    size_bytes: int
    """Of the ONNX file."""
    device: DeviceFingerprint
    conditions: dict[str, Any]
    """CPU flags, container limits; load, governor, frequency and temperature before and after; `beside`: what else the
    host was busy with, in the process that had most of it; where readable."""
    is_reused: bool = False
    """Taken from an earlier measurement of the same architecture on the same device."""
