"""The host, as far as it lets itself be read: its core for us, load, governor, limits, memory."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import Any

_VECTOR_FLAGS = ("sse4_2", "avx", "avx2", "avx512", "avx_vnni", "amx", "asimd", "sve", "bf16", "f16c")
"""Beginnings of the CPU flags that decide which kernels a runtime has."""


def pin_to_core(profile: dict[str, Any]) -> int | None:
    """Keep a single-threaded measurement on one core.

    Returns:
        The core: the fastest that this process may use, and of equals the last, as the first serves interrupts. None
        where nothing is pinned.
    """
    if profile["num_threads"] != 1 or not hasattr(os, "sched_setaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    frequencies = {core: read_number(f"{_scaling(core)}/cpuinfo_max_freq") or 0.0 for core in allowed}
    core = max(allowed, key=lambda core: (frequencies[core], core))
    os.sched_setaffinity(0, {core})
    return core


def identity() -> dict[str, str]:
    """Return the host's name and this Python's version: their part of a fingerprint."""
    return {"host": platform.node(), "python": platform.python_version()}


def lasting_conditions() -> dict[str, Any]:
    """Return what stays as it is during a measurement: kernel, CPU flags, cores, container limits; where readable."""
    flags = next((line for line in (read_text("/proc/cpuinfo") or "").splitlines() if line.startswith("flags")), "")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return _known(
        kernel=platform.release(),
        cpu_flags=" ".join(sorted(f for f in flags.partition(":")[2].split() if f.startswith(_VECTOR_FLAGS))) or None,
        num_allowed_cores=cores and len(cores),
        container_cpu_max=read_text("/sys/fs/cgroup/cpu.max"),
        container_memory_max=read_text("/sys/fs/cgroup/memory.max"),
    )


def passing_conditions() -> dict[str, Any]:
    """Return load, governor, frequency (MHz) and temperature (degrees Celsius), as far as they can be read."""
    scaling = _scaling(max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0)
    zones = [read_number(str(zone)) for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    frequency_khz, hottest = read_number(f"{scaling}/scaling_cur_freq"), max((z for z in zones if z), default=None)
    return _known(
        load_average=os.getloadavg()[0],
        governor=read_text(f"{scaling}/scaling_governor"),
        frequency_mhz=frequency_khz and frequency_khz / 1e3,
        temperature_c=hottest and hottest / 1e3,
    )


def num_preemptions() -> int:
    """Return how often another process was given the core of this one."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class PeakMemory:
    """How far this process's resident memory rises above what it is now; Linux only."""

    def __init__(self) -> None:
        self._before = _status_bytes("VmRSS")
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here on
        except OSError:
            self._before = None

    def bytes(self) -> int | None:
        """Return the rise so far; None where it cannot be read."""
        peak = _status_bytes("VmHWM")
        return None if self._before is None or peak is None else max(0, peak - self._before)


def _status_bytes(field: str) -> int | None:
    lines = (read_text("/proc/self/status") or "").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def _known(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _scaling(core: int) -> str:
    return f"/sys/devices/system/cpu/cpu{core}/cpufreq"


def read_text(path: str) -> str | None:
    """Return a small file's text; None where it is empty or cannot be read, as much of /sys in a container."""
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def read_number(path: str) -> float | None:
    """Return a small file's number; None as `read_text`."""
    text = read_text(path)
    return float(text) if text else None
