"""Energy, where the host counts it: RAPL for the CPU and its memory, else what its hardware monitor (hwmon) has.

The kernel's documents: `power/powercap/powercap.rst`, `hwmon/sysfs-interface.rst`. RAPL's counters are readable to root
alone unless the administrator says otherwise. Nothing is estimated from load or from nominal power.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from secateur.benchmark.runner.host import read_number, read_text

SYSFS = Path("/sys/class")
POLL_S = 0.05


class Meter(Protocol):
    """Something of this host that knows what energy it uses."""

    sensor: str

    def start(self) -> None:
        """Begin to count."""

    def joules(self) -> float:
        """Return what was used since `start`, and stop counting."""


class _Counter(NamedTuple):
    path: str
    range_uj: float
    """It begins anew after so much; infinite where the kernel keeps it from that."""


class CounterMeter:
    """Energy counters, in microjoules, added up.

    Args:
        sensor: What is counted.
        counters: None of them part of another.
    """

    def __init__(self, sensor: str, counters: list[_Counter]) -> None:
        self.sensor = sensor
        self._counters = counters
        self._begun: list[float] = []

    def start(self) -> None:
        """See `Meter`."""
        self._begun = self._read()

    def joules(self) -> float:
        """See `Meter`; right for at most one wrap of a counter, which takes a minute at least."""
        pairs = zip(self._begun, self._read(), self._counters)  # noqa: B905 (Python 3.8)
        return sum(now - begun + (counter.range_uj if now < begun else 0.0) for begun, now, counter in pairs) / 1e6

    def _read(self) -> list[float]:
        return [read_number(counter.path) or 0.0 for counter in self._counters]


class PowerMeter:
    """A power reading, in microwatts, looked at again and again."""

    def __init__(self, sensor: str, path: str) -> None:
        self.sensor = sensor
        self._path = path
        self._readings_uw: list[float] = []
        self._stop = threading.Event()
        self._begun = 0.0

    def start(self) -> None:
        """See `Meter`."""
        self._readings_uw, self._stop = [], threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._begun = time.monotonic()
        self._thread.start()

    def joules(self) -> float:
        """See `Meter`."""
        self._stop.set()
        self._thread.join()
        duration_s = time.monotonic() - self._begun
        return sum(self._readings_uw) / len(self._readings_uw) / 1e6 * duration_s

    def _look(self) -> None:
        while True:
            self._readings_uw.append(read_number(self._path) or 0.0)
            if self._stop.wait(POLL_S):
                return


def find_meter(sysfs: Path = SYSFS) -> Meter | None:
    """Return what counts this host's energy: RAPL's packages and memory, else the hwmon sensor that sees most.

    Sensors of hwmon may be parts of one another (a board's input, its CPU's rail), so they are not added up.
    """
    zones = [path.parent for path in sorted(sysfs.glob("powercap/intel-rapl:*/energy_uj"))]
    named = [(zone, read_text(f"{zone}/name") or "") for zone in zones]
    counted = [(zone, name) for zone, name in named if name.startswith(("package", "dram")) and _is_readable(zone)]
    if counted:
        ranges = [read_number(f"{zone}/max_energy_range_uj") or float("inf") for zone, _ in counted]
        counters = [_Counter(f"{zone}/energy_uj", size) for (zone, _), size in zip(counted, ranges)]  # noqa: B905
        return CounterMeter(f"RAPL {', '.join(name for _, name in counted)}", counters)
    energies, powers = (
        [(path, value) for path in paths if (value := read_number(str(path))) is not None and value > 0]
        for paths in (
            sorted(sysfs.glob("hwmon/hwmon*/energy*_input")),
            sorted([*sysfs.glob("hwmon/hwmon*/power*_average"), *sysfs.glob("hwmon/hwmon*/power*_input")]),
        )
    )
    if energies:
        path, _ = max(energies, key=lambda found: found[1])
        return CounterMeter(_sensor_name(path), [_Counter(str(path), float("inf"))])
    if powers:
        path, _ = max(powers, key=lambda found: found[1])
        return PowerMeter(_sensor_name(path), str(path))
    return None


def measure_energy(meter: Meter, infer: Callable[[], object], idle_w: float, duration_s: float) -> dict[str, Any]:
    """Infer back to back for a while.

    Returns:
        `energy_mj` of one inference, all that the sensor saw; `idle_energy_mj`, what of it the idle host would have
        used in that time; `sensor`.
    """
    num_inferences, begun = 0, time.monotonic()
    meter.start()
    while num_inferences == 0 or time.monotonic() - begun < duration_s:
        infer()
        num_inferences += 1
    joules, spent_s = meter.joules(), time.monotonic() - begun
    return {
        "energy_mj": joules / num_inferences * 1e3,
        "idle_energy_mj": idle_w * spent_s / num_inferences * 1e3,
        "sensor": meter.sensor,
    }


def measure_idle_w(meter: Meter, duration_s: float) -> float:
    """Return the power in watts while this process sleeps."""
    begun = time.monotonic()
    meter.start()
    time.sleep(duration_s)
    joules = meter.joules()
    return joules / (time.monotonic() - begun)


def _is_readable(zone: Path) -> bool:
    return read_number(f"{zone}/energy_uj") is not None


def _sensor_name(path: Path) -> str:
    """Return ``amd_energy Esocket0`` of hwmon's ``.../energy17_input``."""
    field = path.name.rpartition("_")[0]
    return (
        f"{read_text(f'{path.parent}/name') or path.parent.name} {read_text(f'{path.parent}/{field}_label') or field}"
    )
