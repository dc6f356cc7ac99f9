"""Make trial records, and carry them from state to state."""

from __future__ import annotations

import contextlib
import importlib.metadata
from datetime import UTC, datetime
from functools import lru_cache

from secateur.config import ParameterValue
from secateur.errors import SecateurError
from secateur.results import Failure, LatencyReport, State, TrialRecord

_VERSIONED = ("secateur", "torch", "torchvision", "torch-pruning", "ax-platform", "onnx", "openvino", "prefect")


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def proposed(
    study: str, label: str, *, method: str, parameters: dict[str, ParameterValue], seed: int, seconds: float = 0.0
) -> TrialRecord:
    """Return the record of a trial that was just proposed, which took `seconds`."""
    return TrialRecord(
        study=study,
        label=label,
        state="proposed",
        method=method,
        parameters=parameters,
        seed=seed,
        seconds={"propose": seconds},
        versions=versions(),
        created_at=now(),
    )


def measured(record: TrialRecord, latency: LatencyReport, seconds: float) -> TrialRecord:
    """Return a compressed trial's record, completed by its measurement, which took `seconds`."""
    return record.model_copy(
        update={
            "state": _final_state(record, latency),
            "latency": latency,
            "seconds": spent(record, "measure", seconds),
            "versions": {**record.versions, **versions()},
            "finished_at": now(),
        }
    )


def _final_state(record: TrialRecord, latency: LatencyReport) -> State:
    assert record.compressed is not None
    if record.compressed.is_stopped:
        return "stopped"
    if record.compressed.validation.num_predicted_classes == 1:
        return "suspect"
    return "noisy" if latency.is_noisy else "completed"


def measured_untrained(record: TrialRecord, latency: LatencyReport, seconds: float) -> TrialRecord:
    """Return the record of a trial that is still to be trained, with its measurement, which took `seconds`."""
    return record.model_copy(update={"latency": latency, "seconds": spent(record, "measure", seconds)})


def spent(record: TrialRecord, phase: str, seconds: float) -> dict[str, float]:
    """Return the seconds spent for a trial by phase, with those that were just spent."""
    return {**record.seconds, phase: record.seconds.get(phase, 0.0) + seconds}


def not_measured(record: TrialRecord, error: SecateurError, seconds: float) -> TrialRecord:
    """Return a compressed trial's record that says why its network could not be measured, which took `seconds`."""
    return record.model_copy(
        update={
            "state": "failed",
            "compressed": record.compressed if record.state == "compressed" else None,  # untrained, it is of no use
            "failure": Failure(phase="measure", type=type(error).__name__, message=str(error)),
            "seconds": spent(record, "measure", seconds),
            "versions": {**record.versions, **versions()},
            "finished_at": now(),
        }
    )


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Return the versions of what matters and is installed here."""
    found = {}
    for name in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
