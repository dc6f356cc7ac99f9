"""Where the time went, and under which conditions the figures came about."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from secateur.report.facts import Facts
from secateur.results import DeviceFingerprint


@dataclass(frozen=True, kw_only=True)
class PhaseTime:
    """Wall time spent in one phase, by all trials and baselines together."""

    phase: str
    total_s: float
    median_s: float
    """Of those records that spent any."""
    share: float


def phase_times(facts: Facts) -> list[PhaseTime]:
    """Return where the time went, longest phase first."""
    spent: dict[str, list[float]] = {}
    for record in facts.records:
        for phase, seconds in record.seconds.items():
            if math.isfinite(seconds) and seconds > 0:
                spent.setdefault(phase, []).append(seconds)
    overall = math.fsum(s for seconds in spent.values() for s in seconds)
    times = [
        PhaseTime(
            phase=phase,
            total_s=math.fsum(seconds),
            median_s=statistics.median(seconds),
            share=math.fsum(seconds) / overall,
        )
        for phase, seconds in spent.items()
    ]
    return sorted(times, key=lambda time: -time.total_s)


def devices(facts: Facts) -> list[DeviceFingerprint]:
    """Return the conditions under which latencies were measured; more than one means that they do not compare."""
    return list(dict.fromkeys(record.latency.device for record in facts.records if record.latency))


def device_text(device: DeviceFingerprint) -> str:
    """Describe a device: ``Intel Xeon (CPU), OpenVINO 2026.4.0, f32, 1 thread, host edge-1``."""
    threads = device.num_threads
    parts = [f"{device.full_name} ({device.device})", device.software, device.precision]
    if threads is not None:
        parts.append(f"{threads} thread{'' if threads == 1 else 's'}")
    return ", ".join([*parts, f"host {device.host}"])


def conditions(facts: Facts) -> dict[str, str]:
    """Return what held while measuring: each condition's range over all records, or the values it took."""
    seen: dict[str, list[Any]] = {}
    for record in facts.records:
        for name, value in _flat(record.latency.conditions if record.latency else {}):
            seen.setdefault(name, []).append(value)
    return {name: _range_text(values) for name, values in seen.items()}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        name = f"{prefix} {key}".strip().replace("_", " ")
        if isinstance(item, Mapping):
            yield from _flat(item, name)
        elif item is not None:
            yield name, item


def _range_text(values: list[Any]) -> str:
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        return f"{low:,.4g}" if low == high else f"{low:,.4g} to {high:,.4g}"
    texts = list(dict.fromkeys(str(v) for v in values))
    return ", ".join(texts[:5]) + (f" and {len(texts) - 5:,} more" if len(texts) > 5 else "")


def versions(facts: Facts) -> dict[str, str]:
    """Return each package's version; several, if the records differ."""
    seen: dict[str, set[str]] = {}
    for record in facts.records:
        for package, version in record.versions.items():
            seen.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(found)) for package, found in sorted(seen.items())}


def num_test_accesses(facts: Facts) -> int:
    """Return how often test data were touched."""
    return sum(len(record.test.accessed_at) for record in facts.records if record.test)
