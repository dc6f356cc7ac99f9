"""What is found out: trial records, latency reports. Written as JSON, and the only source of a report."""

from secateur.results.latency import (
    DeviceFingerprint,
    Drift,
    Energy,
    LatencyReport,
    Layer,
    NetworkTime,
    Quantiles,
    Stream,
)
from secateur.results.quality import (
    DeviceQuality,
    EpochResult,
    Scores,
    TestScores,
)
from secateur.results.record import (
    Interval,
    Record,
)
from secateur.results.trials import (
    BASELINES,
    OFF_THE_SHELF,
    UNPRUNED,
    Compressed,
    Failure,
    Gate,
    KeptFilters,
    State,
    StudyResults,
    TrialRecord,
    metrics_of,
    with_top1_drop,
)

__all__ = [
    "BASELINES",
    "OFF_THE_SHELF",
    "UNPRUNED",
    "Compressed",
    "DeviceFingerprint",
    "DeviceQuality",
    "Drift",
    "Energy",
    "EpochResult",
    "Failure",
    "Gate",
    "Interval",
    "KeptFilters",
    "LatencyReport",
    "Layer",
    "NetworkTime",
    "Quantiles",
    "Record",
    "Scores",
    "State",
    "Stream",
    "StudyResults",
    "TestScores",
    "TrialRecord",
    "metrics_of",
    "with_top1_drop",
]
