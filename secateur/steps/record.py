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
    assert record.compressed is not None
    state: State = "noisy" if latency.is_noisy else "completed"
    if record.compressed.validation.num_predicted_classes == 1:
        state = "suspect"
    return record.model_copy(
        update={
            "state": state,
            "latency": latency,
            "seconds": {**record.seconds, "measure": seconds},
            "versions": {**record.versions, **versions()},
            "finished_at": now(),
        }
    )


def not_measured(record: TrialRecord, error: SecateurError, seconds: float) -> TrialRecord:
    """Return a compressed trial's record that says why its network could not be measured, which took `seconds`."""
    return record.model_copy(
        update={
            "state": "failed",
            "failure": Failure(phase="measure", type=type(error).__name__, message=str(error)),
            "seconds": {**record.seconds, "measure": seconds},
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
