"""From the raw timings of one or several processes to a latency report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from secateur.benchmark.runner.interval import drift, hierarchical_interval, paired_ratios, quantiles
from secateur.config import DeviceProfile
from secateur.results import DeviceFingerprint, Drift, Interval, LatencyReport, Quantiles

_ONCE = ("read_ms", "compile_ms", "first_inference_ms", "peak_memory_bytes", "size_bytes")
_MIN_QUIET_ROUNDS = 5
"""Of each process: of fewer, neither an interval nor drift can be told."""
_DETAILS = ("latency_ms", "throughput_fps", "num_requests", "energy", "network", "stream")


def combine(
    answers: Sequence[dict[str, Any]], index: int, device: DeviceFingerprint, profile: DeviceProfile
) -> LatencyReport:
    """Return the report of one network.

    Args:
        answers: What the runner said, one for each process; what was asked of the first alone (counters, throughput)
            and one-time costs are its.
        index: The network's; 0 is the reference.
        device: As the first process told it.
        profile: Says how many rounds are enough, and how wide an interval is noisy.
    """
    models = [answer["networks"][index] for answer in answers]
    references = [answer["networks"][0] for answer in answers]
    min_rounds = max(_MIN_QUIET_ROUNDS, profile.min_rounds // len(answers))
    pairs = list(zip(models, references, strict=True))
    interrupted = [_interrupted(model, reference) for model, reference in pairs]
    ratios = [
        paired_ratios(model["rounds_ms"], reference["rounds_ms"], was_interrupted, min_rounds)
        for (model, reference), was_interrupted in zip(pairs, interrupted, strict=True)
    ]
    ratio = Interval(**hierarchical_interval(ratios, np.random.default_rng(answers[0]["seed"])))
    first, reference = models[0], references[0]
    device_ms, reference_ms = first.get("latency_ms"), reference.get("latency_ms")
    return LatencyReport(
        latency_ratio=ratio,
        device_latency_ratio=device_ms / reference_ms if device_ms and reference_ms else None,
        total_latency_ms=_quantiles(models),
        reference_total_latency_ms=_quantiles(references),
        reference_latency_ms=reference_ms,
        num_rounds=sum(len(model["rounds_ms"]) for model in models),
        is_noisy=ratio.half_width > profile.target_half_width,
        num_processes=len(answers),
        process_ratios=tuple(float(np.median(values)) for values in ratios),
        ratio_drift=Drift(**drift(ratios[0])),
        reference_drift=Drift(**drift(np.asarray(reference["rounds_ms"]))),
        layers=tuple(first.get("layers", ())),
        device=device,
        conditions={
            **answers[0]["conditions"],
            "beside": max((answer["conditions"]["beside"] for answer in answers), key=_share_beside),
            "num_interrupted_blocks": sum(map(sum, interrupted)),
        },
        **{name: first[name] for name in _ONCE},
        **{name: first.get(name) for name in _DETAILS},
    )


def _share_beside(beside: dict[str, Any]) -> float:
    return math.fsum(value for name, value in beside.items() if name.endswith("_share"))


def _interrupted(model: dict[str, Any], reference: dict[str, Any]) -> list[bool]:
    num_rounds = len(model["rounds_ms"])
    pairs = zip(model["was_interrupted"], reference["was_interrupted"][:num_rounds], strict=True)
    return [a or b for a, b in pairs]


def _quantiles(networks: Sequence[dict[str, Any]]) -> Quantiles:
    return Quantiles(**quantiles([sample_ms for network in networks for sample_ms in network["samples_ms"]]))
