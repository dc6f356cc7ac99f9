"""What is found out: trial records, latency reports. Written as JSON, and the only source of a report.

Times are in seconds unless the name says ms; `top1` and `top5` are percentages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from secateur.confusion import lowest_percent

UNPRUNED = "unpruned"
OFF_THE_SHELF = "off_the_shelf"
BASELINES = (UNPRUNED, OFF_THE_SHELF)
"""Labels of the two records that are no trials: the network as it came, and the schedule's own setting."""


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


class _Quality(Record):
    top1: float
    top5: float
    num_images: int
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Images of class i (row) that were taken for class j (column); of test data only, for it can be large."""
    sensitivity: tuple[float | None, ...] = ()
    """For each class, the share of its images that were found; None of no images."""
    specificity: tuple[float | None, ...] = ()
    """For each class, the share of the other images that were not taken for it; None of no images."""


class DeviceQuality(_Quality):
    """A network's quality as the device computes it: an export or a lower precision can change it."""


class EpochResult(Record):
    """One epoch of retraining; the evaluation is on validation data."""

    epoch: int
    """From 0; -1 is the network before retraining: thinned, its batch normalisation recalibrated."""
    lr: float | None
    training_loss: float | None
    top1: float
    top5: float
    loss: float
    duration_s: float
    images_per_s: float | None = None
    """Of training alone, the evaluation left out."""


class Scores(_Quality):
    """A network's quality on one set of images."""

    loss: float
    num_predicted_classes: int | None = None
    """Distinct classes among the predictions; 1: the network says the same of every image."""
    calibration_error: float | None = None
    """Expected distance between confidence and accuracy, in percent (Guo et al. 2017; 15 bins)."""
    others: dict[str, float] = {}
    """What the study's own evaluation function returned."""

    @property
    def metrics(self) -> dict[str, float | None]:
        """Every metric that these images tell, by name, and the study's own."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "min_class_sensitivity": lowest_percent(self.sensitivity),
            "min_class_specificity": lowest_percent(self.specificity),
            "calibration_error": self.calibration_error,
            **self.others,
        }


class TestScores(Scores):
    """Quality on test data: touched for finalists and baselines alone, and each access is noted."""

    accessed_at: tuple[str, ...]
    """UTC times of each access, ISO 8601."""
    class_names: tuple[str, ...] = ()
    """Of each class, in order."""


class KeptFilters(Record):
    """What remains of one convolution."""

    num_filters: int
    """Before pruning."""
    kept: tuple[int, ...]
    """Indices into the filters before pruning, ascending."""


class Failure(Record):
    """Why a trial ended without a result."""

    phase: str
    type: str
    message: str


class Compressed(Record):
    """What pruning, thinning, retraining and exporting yield; reused for every equal candidate."""

    layers: dict[str, KeptFilters]
    """Every convolution, by module name."""
    num_params: int
    macs: int
    size_bytes: int
    """Of the ONNX file."""
    architecture: str
    """Signature of the ONNX graph and its shapes, weights left out."""
    onnx: str
    """Artifact key."""
    checkpoint: str
    """Artifact key of the safetensors file."""
    epochs: tuple[EpochResult, ...]
    is_stopped: Annotated[bool, Field(description="Its training was ended early.")] = False
    top1_before_recalibration: float | None = None
    """Right after thinning; None of a network whose batch normalisation was not recalibrated."""
    validation: Scores
    seconds: dict[str, float]
    """Phase -> time."""


class Gate(Record):
    """What was expected of a network before it was trained, its latency ratio being known."""

    optimistic_top1: float
    """What it might reach at best."""
    can_win: bool
    """With that it would enter the front, or keep the constraints."""
    is_audit: bool = False
    """Trained although it cannot win: to learn how often the gate is wrong."""


State = Literal["proposed", "compressed", "completed", "noisy", "suspect", "gated", "stopped", "failed"]
"""proposed (with a gate, its untrained network and latency are known by its end) -> compressed -> one of the others.

noisy: the latency ratio's interval stayed too wide. suspect: the network predicts one class only. gated: never trained,
as it cannot win. stopped: its training was ended early, as it cannot win; its top1 is that of the last epoch it had.
"""


class TrialRecord(Record):
    """Everything known of one trial (or baseline). The records are the truth of a study."""

    schema_version: Literal[1] = 1
    study: str
    label: str
    """The trial's index in decimal, or the name of a baseline."""
    state: State
    method: Annotated[
        str, Field(description="What proposed it: sobol, bayes, random, grid, replicate, manual, or baseline.")
    ]
    parameters: dict[str, int | float | str]
    seed: int
    compressed: Compressed | None = None
    latency: LatencyReport | None = None
    test: TestScores | None = None
    failure: Failure | None = None
    is_reused: bool = False
    """The compressed network was taken from an earlier, equal candidate."""
    same_as: str | None = None
    """Label of the earlier trial of which the same network remained."""
    num_repeats: int = 0
    """Points that were passed over for this one, since their networks were known."""
    replicate_of: str | None = None
    """Label of the trial that this one repeats with another seed, to see how far top1 scatters."""
    remark: str | None = None
    """Why another method than the study's chose it: Ax failed, a person queued it."""
    gate: Gate | None = None
    """None where the study has none."""
    seconds: dict[str, float] = {}
    """Phase -> wall time spent for this trial, generation and measurement included; reused work costs none."""
    energy_j: dict[str, float] = {}
    """Phase -> energy of its host in joules, shared out among the trials that were worked on at once; where it is
    counted."""
    versions: dict[str, str] = {}
    created_at: str
    finished_at: str | None = None

    @property
    def is_trial(self) -> bool:
        """It is neither a baseline nor a contender."""
        return self.label.isdecimal()

    @property
    def index(self) -> int:
        """The trial's number; only trials have one."""
        return int(self.label)

    @property
    def is_finished(self) -> bool:
        """Nothing more will happen to it."""
        return self.state not in {"proposed", "compressed"}

    @property
    def is_usable(self) -> bool:
        """It is finished, and its figures may be compared; a failed trial may have some, too."""
        return self.is_finished and self.state != "failed"

    @property
    def is_trained(self) -> bool:
        """Its quality is known: its training, if there is any, went to its end."""
        is_known = (c := self.compressed) is not None and not c.is_stopped
        return is_known and self.state not in {"proposed", "gated"}

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric known so far, by name (`top1_drop`: see `metrics_of`); none of quality unless trained."""
        values: dict[str, float | None] = {}
        if c := self.compressed:
            values |= {"num_params": c.num_params, "macs": c.macs, "size_bytes": c.size_bytes}
            values |= c.validation.metrics if self.is_trained else {}
        if m := self.latency:
            values |= {"latency_ratio": m.latency_ratio.estimate, "device_latency_ratio": m.device_latency_ratio}
            values |= {"total_latency_ms": m.total_latency_ms.p50, "latency_ms": m.latency_ms}
        return {name: float(v) for name, v in values.items() if v is not None and math.isfinite(v)}


def metrics_of(record: TrialRecord, unpruned: TrialRecord | None) -> dict[str, float]:
    """Return all metrics of a record, those relative to the unpruned network included."""
    return with_top1_drop(record.metrics, unpruned.metrics if unpruned is not None else {})


def with_top1_drop(metrics: Mapping[str, float], unpruned: Mapping[str, float]) -> dict[str, float]:
    """Return `metrics` and, where both top1 are known, `top1_drop`."""
    drop = {"top1_drop": unpruned["top1"] - metrics["top1"]} if "top1" in metrics and "top1" in unpruned else {}
    return {**metrics, **drop}


class StudyResults(Record):
    """All records of one study: what a report is made from."""

    study: dict[str, Any]
    """The study as run (`Study.model_dump(mode="json")`)."""
    baselines: dict[str, TrialRecord]
    trials: tuple[TrialRecord, ...]
    """By index."""

    @property
    def baseline_metrics(self) -> dict[str, Mapping[str, float]]:
        """Metrics by the name a constraint uses: ``baseline`` and ``off_the_shelf``."""
        unpruned = self.baselines.get(UNPRUNED)
        names = {"baseline": unpruned, OFF_THE_SHELF: self.baselines.get(OFF_THE_SHELF)}
        return {name: metrics_of(record, unpruned) for name, record in names.items() if record is not None}
