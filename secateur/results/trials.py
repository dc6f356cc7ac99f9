"""Trial records, and all of them together: the truth of a study. Times are in seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from secateur.results.latency import LatencyReport
from secateur.results.quality import EpochResult, Scores, TestScores
from secateur.results.record import Record

UNPRUNED = "unpruned"
OFF_THE_SHELF = "off_the_shelf"
BASELINES = (UNPRUNED, OFF_THE_SHELF)
"""Labels of the two records that are no trials: the network as it came, and the schedule's own setting."""


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
        str, Field(description="What proposed it: own, sobol, bayes, random, grid, replicate, manual, or baseline.")
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
    seconds: dict[str, float] = Field(default_factory=dict)
    """Phase -> wall time spent for this trial, generation and measurement included; reused work costs none."""
    energy_j: dict[str, float] = Field(default_factory=dict)
    """Phase -> energy of its host in joules, shared out among the trials that were worked on at once; where it is
    counted."""
    versions: dict[str, str] = Field(default_factory=dict)
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
    champion: TrialRecord | None = None
    """The champion's network: a trial's, retrained with another seed; None before the first promotion."""

    @property
    def baseline_metrics(self) -> dict[str, Mapping[str, float]]:
        """Metrics by the name a constraint uses: ``baseline`` and ``off_the_shelf``."""
        unpruned = self.baselines.get(UNPRUNED)
        names = {"baseline": unpruned, OFF_THE_SHELF: self.baselines.get(OFF_THE_SHELF)}
        return {name: metrics_of(record, unpruned) for name, record in names.items() if record is not None}
