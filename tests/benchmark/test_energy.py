"""Energy, from a made-up /sys."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from secateur.benchmark.runner import measurement
from secateur.benchmark.runner.energy import CounterMeter, PowerMeter, find_meter, measure_energy, measure_idle_w
from secateur.results import Energy

RAPL = {
    "powercap/intel-rapl:0/name": "package-0",
    "powercap/intel-rapl:0/max_energy_range_uj": 1000000,
    "powercap/intel-rapl:0/energy_uj": 999000,
    "powercap/intel-rapl:0:0/name": "core",
    "powercap/intel-rapl:0:0/energy_uj": 5,
    "powercap/intel-rapl:0:1/name": "dram",
    "powercap/intel-rapl:0:1/max_energy_range_uj": 1000000,
    "powercap/intel-rapl:0:1/energy_uj": 2000,
    "powercap/intel-rapl:1/name": "psys",
    "powercap/intel-rapl:1/energy_uj": 7,
}
HWMON = {
    "hwmon/hwmon2/name": "amd_energy",
    "hwmon/hwmon2/energy1_input": 1000,
    "hwmon/hwmon2/energy1_label": "Ecore000",
    "hwmon/hwmon2/energy17_input": 9000,
    "hwmon/hwmon2/energy17_label": "Esocket0",
}
POWER = {
    "hwmon/hwmon0/name": "ina3221",
    "hwmon/hwmon0/power1_input": 5000000,
    "hwmon/hwmon1/power2_average": 1000000,
    "hwmon/hwmon1/power3_input": 0,
}


def write(sysfs: Path, values: Mapping[str, object]) -> None:
    for name, value in values.items():
        (sysfs / name).parent.mkdir(parents=True, exist_ok=True)
        (sysfs / name).write_text(f"{value}\n")


def test_rapl_adds_packages_and_memory_and_counts_on_when_it_wraps(tmp_path: Path) -> None:
    write(tmp_path, {**RAPL, **HWMON})
    meter = find_meter(tmp_path)
    assert isinstance(meter, CounterMeter)
    assert meter.sensor == "RAPL package-0, dram"  # the core is in the package, and the package in psys
    meter.start()
    write(tmp_path, {"powercap/intel-rapl:0/energy_uj": 500, "powercap/intel-rapl:0:1/energy_uj": 2300})
    assert meter.joules() == pytest.approx((1500 + 300) / 1e6)


def test_without_rapl_the_sensor_that_sees_most_counts(tmp_path: Path) -> None:
    write(tmp_path, HWMON)
    meter = find_meter(tmp_path)
    assert isinstance(meter, CounterMeter)
    assert meter.sensor == "amd_energy Esocket0"
    meter.start()
    write(tmp_path, {"hwmon/hwmon2/energy17_input": 2009000})
    assert meter.joules() == pytest.approx(2.0)


def test_power_is_added_up_over_time(tmp_path: Path) -> None:
    write(tmp_path, POWER)
    meter = find_meter(tmp_path)
    assert isinstance(meter, PowerMeter)
    assert meter.sensor == "ina3221 power1"
    assert measure_idle_w(meter, 0.1) == pytest.approx(5.0, rel=0.05)
    found = measure_energy(meter, lambda: time.sleep(0.01), 5.0, 0.1)
    assert found["energy_mj"] == pytest.approx(found["idle_energy_mj"], rel=0.05)
    assert found["energy_mj"] >= 50  # 5 W for at least 10 ms
    assert found["sensor"] == "ina3221 power1"


def test_an_inference_is_told_apart_from_idling(tmp_path: Path) -> None:
    """The counter rises by 3 mJ with each inference, and by nothing meanwhile."""
    write(tmp_path, {**RAPL, "powercap/intel-rapl:0/max_energy_range_uj": 10**9})
    counter = tmp_path / "powercap/intel-rapl:0/energy_uj"

    def infer() -> None:
        counter.write_text(str(int(counter.read_text()) + 3000))

    meter = find_meter(tmp_path)
    assert meter is not None
    idle_w = measure_idle_w(meter, 0.01)
    assert idle_w == 0
    assert measure_energy(meter, infer, idle_w, 0.02) == {
        "energy_mj": pytest.approx(3.0),
        "idle_energy_mj": 0,
        "sensor": "RAPL package-0, dram",
    }


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"powercap/intel-rapl:0/name": "package-0"},
        {"powercap/intel-rapl:1/name": "psys"},
        {"hwmon/hwmon1/power3_input": 0},
    ],
    ids=["nothing", "unreadable", "another zone", "a sensor that stands at zero"],
)
def test_where_nothing_is_counted_nothing_is_made_up(tmp_path: Path, values: Mapping[str, object]) -> None:
    write(tmp_path, values)
    if values:
        (tmp_path / "powercap/intel-rapl:0/energy_uj").mkdir(parents=True)  # to root, too, unreadable
    assert find_meter(tmp_path) is None


def test_each_network_s_energy_is_among_its_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, POWER)
    monkeypatch.setattr(measurement, "find_meter", lambda: find_meter(tmp_path))
    monkeypatch.setattr(measurement, "ENERGY_S", 0.01)
    device: Any = SimpleNamespace(has_counters=False, throughput=lambda model, path, seconds: (10.0, 2))
    networks: Any = [SimpleNamespace(path=name, model=None, infer=lambda: time.sleep(0.001)) for name in "ab"]
    display = SimpleNamespace(emit=lambda event, **fields: None)
    for details in measurement._details(device, networks, 0.0, display):
        assert (details["throughput_fps"], details["num_requests"]) == (10.0, 2)
        assert Energy(**details["energy"]).sensor == "ina3221 power1"
