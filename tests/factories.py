"""Records made by hand, for tests of whatever reads them: reports, leaderboards, the command line.

`make_record` makes one trial or baseline, `make_results` a whole study of about 20 trials with every state in it.
All values are plausible, and the same at every call.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from secateur.config import DeviceProfile, Study
from secateur.results import (
    OFF_THE_SHELF,
    UNPRUNED,
    Compressed,
    DeviceFingerprint,
    EpochResult,
    Failure,
    Interval,
    KeptFilters,
    LatencyReport,
    Quantiles,
    Scores,
    State,
    StudyResults,
    TestScores,
    TrialRecord,
)

REFERENCE_MS = 2.0
"""Total latency of the unpruned network."""

PARAMETERS: dict[str, dict[str, Any]] = {
    "filter_pruner_70.desired_sparsity": {"min": 0.0, "max": 0.99},
    "filter_pruner_60.desired_sparsity": {"min": 0.0, "max": 0.99},
    "filter_pruner_20.desired_sparsity": {"min": 0.0, "max": 0.99},
    "filter_pruner_70.group_type": {"values": ["Filters", "Channels"]},
}
"""The search space of `make_study`: three numbers and a choice."""


def make_study(
    *,
    objectives: Mapping[str, str] | None = None,
    constraints: Sequence[str] = ("top1 >= baseline - 1.0",),
    parameters: Mapping[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Return a study as `StudyResults.study` holds it; `changes` are fields of `Study`."""
    fields = {
        "name": "resnet20-cifar10",
        "model": "resnet20_cifar",
        "dataset": "cifar10",
        "schedule": {"version": 1},
        "device": DeviceProfile(name="cpu-f32-1thread", num_threads=1, precision="f32"),
        "search": {
            "parameters": dict(parameters or PARAMETERS),
            "objectives": dict(objectives or {"latency_ratio": "minimize", "top1": "maximize"}),
            "constraints": list(constraints),
        },
        "training": {"epochs": 3},
        **changes,
    }
    return Study.model_validate(fields).model_dump(mode="json")


def make_device(**changes: Any) -> DeviceFingerprint:
    """Return the conditions of a measurement."""
    fields: dict[str, Any] = {
        "profile": "cpu-f32-1thread",
        "device": "CPU",
        "full_name": "Intel(R) Xeon(R) Processor @ 2.60GHz",
        "runtime": "2026.4.0-21345",
        "num_threads": 1,
        "precision": "f32",
        "host": "edge-1",
        "python": "3.11.9",
    }
    return DeviceFingerprint(**(fields | changes))


def make_latency(
    ratio: float = 0.8,
    *,
    half_width: float = 0.004,
    reference_ms: float = REFERENCE_MS,
    load: float = 0.4,
    **changes: Any,
) -> LatencyReport:
    """Return a latency report.

    Args:
        ratio: Of total latency to the reference's.
        half_width: Of the ratio's interval, relative.
        reference_ms: Total latency of the unpruned network.
        load: The host's load average.
        changes: Fields of `LatencyReport`.
    """
    total_ms = ratio * reference_ms
    fields: dict[str, Any] = {
        "latency_ratio": Interval(
            estimate=ratio,
            low=ratio * (1 - half_width),
            high=ratio * (1 + half_width),
            standard_error=ratio * half_width / 1.96,
        ),
        "device_latency_ratio": ratio * 0.99,
        "total_latency_ms": _quantiles(total_ms),
        "latency_ms": total_ms * 0.93,
        "reference_total_latency_ms": _quantiles(reference_ms),
        "reference_latency_ms": reference_ms * 0.93,
        "num_rounds": 240,
        "is_noisy": False,
        "read_ms": 3.1,
        "compile_ms": 41.0,
        "first_inference_ms": total_ms * 1.7,
        "size_bytes": 1_100_000,
        "device": make_device(),
        "conditions": {"before": {"load_average": load, "governor": "performance"}, "after": {"load_average": load}},
    }
    return LatencyReport(**(fields | changes))


def make_compressed(
    top1: float = 88.0, *, num_params: int = 200_000, num_epochs: int = 3, **changes: Any
) -> Compressed:
    """Return a compressed network; `changes` are fields of `Compressed`."""
    fields: dict[str, Any] = {
        "layers": {"conv1": KeptFilters(num_filters=4, kept=(0, 2, 3))},
        "num_params": num_params,
        "macs": num_params * 150,
        "size_bytes": num_params * 4 + 20_000,
        "architecture": f"architecture-{num_params}",
        "onnx": f"objects/onnx-{num_params}",
        "checkpoint": f"objects/checkpoint-{num_params}",
        "epochs": tuple(_epoch(i, top1, num_epochs) for i in range(-1, num_epochs)),
        "validation": Scores(top1=top1, top5=min(100.0, top1 + 9.0), loss=(100 - top1) / 30, num_images=5000),
        "seconds": {"prune": 0.4, "train": 31.0, "export": 0.3},
    }
    return Compressed(**(fields | changes))


def make_record(
    label: str | int = "0",
    *,
    state: State = "completed",
    top1: float | None = 88.0,
    latency_ratio: float | None = 0.8,
    parameters: Mapping[str, int | float | str] | None = None,
    num_params: int = 200_000,
    half_width: float = 0.004,
    test_top1: float | None = None,
    **changes: Any,
) -> TrialRecord:
    """Return the record of a trial, or of a baseline.

    Args:
        label: The trial's number, or a baseline's name.
        state: What became of it; "failed" leaves out all results and adds a failure.
        top1: On validation data; None: there is no compressed network yet.
        latency_ratio: Against the unpruned network; None: it is not measured yet.
        parameters: By default one value for each of `PARAMETERS`.
        num_params: Of the compressed network.
        half_width: Of the latency ratio's interval, relative.
        test_top1: On test data; None: those were not touched.
        changes: Fields of `TrialRecord`.
    """
    is_failed = state == "failed"
    is_baseline = not str(label).isdecimal()
    fields: dict[str, Any] = {
        "study": "resnet20-cifar10",
        "label": str(label),
        "state": state,
        "method": "baseline" if is_baseline else "bayes",
        "parameters": dict(_default_parameters(is_baseline) if parameters is None else parameters),
        "seed": 0,
        "compressed": None if top1 is None or is_failed else make_compressed(top1, num_params=num_params),
        "latency": None if latency_ratio is None or is_failed else make_latency(latency_ratio, half_width=half_width),
        "test": None if test_top1 is None else _test_scores(test_top1),
        "failure": _FAILURE if is_failed else None,
        "seconds": {"generate": 0.6, "prune": 0.4, "train": 31.0, "export": 0.3, "measure": 2.2},
        "versions": {"secateur": "0.1.0", "torch": "2.13.0", "openvino": "2026.4.0"},
        "created_at": "2026-11-20T21:00:00Z",
        "finished_at": None if state in {"proposed", "compressed"} else "2026-11-20T21:00:35Z",
    }
    return TrialRecord(**(fields | changes))


def make_baselines() -> dict[str, TrialRecord]:
    """Return the unpruned network (90.10 %) and the schedule's own setting (0.772 of its latency, 89.70 %)."""
    sparsities = zip(list(PARAMETERS)[:3], (0.7, 0.6, 0.2), strict=True)
    return {
        UNPRUNED: make_record(UNPRUNED, top1=90.1, latency_ratio=1.0, num_params=272_474, test_top1=90.02),
        OFF_THE_SHELF: make_record(
            OFF_THE_SHELF,
            top1=89.7,
            latency_ratio=0.772,
            num_params=180_000,
            test_top1=89.44,
            parameters=dict(sparsities),
        ),
    }


def make_results(
    trials: Sequence[TrialRecord] | None = None,
    *,
    baselines: Mapping[str, TrialRecord] | None = None,
    study: Mapping[str, Any] | None = None,
    num_trials: int = 22,
) -> StudyResults:
    """Return a study's results.

    Args:
        trials: By default `make_trials(num_trials)`.
        baselines: By default `make_baselines()`; ``{}`` for none.
        study: By default `make_study()`.
        num_trials: How many, where `trials` is not given.
    """
    return StudyResults(
        study=dict(make_study() if study is None else study),
        baselines=dict(make_baselines() if baselines is None else baselines),
        trials=tuple(make_trials(num_trials) if trials is None else trials),
    )


def make_trials(num_trials: int) -> list[TrialRecord]:
    """Return trials as a search leaves them: most completed, a few in each other state, the last not yet done."""
    rng = random.Random(0)
    trials = [_random_trial(i, rng) for i in range(num_trials)]
    if num_trials >= 20:
        trials[4] = make_record(4, state="failed", parameters=trials[4].parameters, method="sobol")
        trials[9] = make_record(9, state="failed", parameters=trials[9].parameters)
        trials[-1] = make_record(num_trials - 1, state="proposed", top1=None, latency_ratio=None, seconds={})
    return trials


def _random_trial(index: int, rng: random.Random) -> TrialRecord:
    """Return a trial that is faster and worse the more it is pruned."""
    sparsities = [round(rng.random() * 0.99, 4) for _ in range(3)]
    width = 1 - 0.5 * sparsities[0] - 0.3 * sparsities[1] - 0.1 * sparsities[2]
    ratio = 0.2 + 0.8 * width + rng.gauss(0, 0.02)
    top1 = 90.6 - 6.5 * math.pow(1 - width, 3) - abs(rng.gauss(0, 0.25))
    state: State = "completed"
    if index % 11 == 6:
        state = "noisy"
    elif index % 13 == 12:
        state, top1 = "suspect", 10.0
    values: list[int | float | str] = [*sparsities, rng.choice(["Filters", "Channels"])]
    return make_record(
        index,
        state=state,
        top1=round(top1, 2),
        latency_ratio=ratio,
        half_width=0.03 if state == "noisy" else 0.004,
        parameters=dict(zip(PARAMETERS, values, strict=True)),
        num_params=round(272_474 * width),
        test_top1=round(top1 - 0.2, 2) if index == 8 else None,
        method="sobol" if index < 8 else "bayes",
    )


_FAILURE = Failure(
    phase="measure",
    type="MeasurementError",
    message="The runner was silent for 120 s and was killed.\nIts last words: 'compiling model'",
)


def _default_parameters(is_baseline: bool) -> dict[str, int | float | str]:
    return {} if is_baseline else dict(zip(PARAMETERS, (0.7, 0.6, 0.2, "Filters"), strict=True))


def _quantiles(median_ms: float) -> Quantiles:
    return Quantiles(p50=median_ms, p90=median_ms * 1.1, mean=median_ms * 1.02, min=median_ms * 0.95, num_samples=240)


def _epoch(epoch: int, top1: float, num_epochs: int) -> EpochResult:
    reached = top1 * (0.6 + 0.4 * (epoch + 1) / max(num_epochs, 1))
    return EpochResult(
        epoch=epoch,
        lr=None if epoch < 0 else 0.1,
        training_loss=None if epoch < 0 else 0.5,
        top1=reached,
        top5=min(100.0, reached + 9),
        loss=(100 - reached) / 30,
        duration_s=10.0,
    )


def _test_scores(top1: float) -> TestScores:
    return TestScores(top1=top1, top5=99.0, loss=0.4, num_images=10_000, accessed_at=("2026-11-20T23:00:00Z",))
