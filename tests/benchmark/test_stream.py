"""Frames at a fixed rate: against a clock that stands still unless somebody works, and on the CPU."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from secateur.benchmark import measure
from secateur.benchmark.runner.stream import run_stream
from secateur.config import DeviceProfile
from secateur.results import LatencyReport


@dataclass
class Clock:
    """Time that passes only in inferences, of the given lengths in turn, and in sleep."""

    inferences_s: list[float]
    now_s: float = 0.0
    num_inferences: int = 0
    events: list[str] = field(default_factory=list)

    def read(self) -> float:
        self.now_s += 1e-7  # a clock that is watched goes on
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def infer(self) -> float:
        self.now_s += self.inferences_s[self.num_inferences % len(self.inferences_s)]
        self.num_inferences += 1
        return 0.0

    def emit(self, event: str, **fields: Any) -> None:
        self.events.append(fields["phase"])


def stream(clock: Clock, *, frames_per_s: float, duration_s: float = 1.0, queue_length: int = 1) -> dict[str, Any]:
    profile = {"frames_per_s": frames_per_s, "max_duration_s": duration_s, "queue_length": queue_length}
    return run_stream(clock, profile, clock, clock=clock.read, sleep=clock.sleep)


def test_a_fast_device_keeps_up() -> None:
    found = stream(Clock([0.02]), frames_per_s=10)
    assert (found["num_frames"], found["num_dropped"]) == (10, 0)
    assert found["latency_ms"]["p50"] == pytest.approx(20, abs=0.1)
    assert found["sustained_fps"] == pytest.approx(10, rel=0.03)


def test_a_device_that_is_too_slow_drops_frames_and_sustains_its_own_rate() -> None:
    found = stream(Clock([0.2]), frames_per_s=10, duration_s=10.0)
    assert found["num_frames"] == 100
    assert found["num_dropped"] == pytest.approx(50, abs=2)
    assert found["sustained_fps"] == pytest.approx(5, rel=0.03)
    assert found["latency_ms"]["p50"] == pytest.approx(300, abs=101)  # it waits for one inference, and has its own


@pytest.mark.parametrize(("queue_length", "num_dropped"), [(1, 8), (3, 6), (9, 0), (20, 0)])
def test_a_pause_delays_and_drops_what_came_meanwhile(queue_length: int, num_dropped: int) -> None:
    """One inference of a second, at ten frames a second: nine more came meanwhile."""
    found = stream(Clock([1.0, *[0.001] * 18]), frames_per_s=10, duration_s=1.0, queue_length=queue_length)
    assert found["num_dropped"] == num_dropped


def test_latency_counts_from_when_a_frame_was_due() -> None:
    """Counted from when its turn came, nine of ten frames would have taken 1 ms: coordinated omission."""
    found = stream(Clock([1.0, *[0.001] * 9]), frames_per_s=10, duration_s=1.0, queue_length=20)
    assert found["latency_ms"]["p50"] == pytest.approx(555, abs=10)
    assert found["latency_ms"]["min"] == pytest.approx(109, abs=3)


def test_a_long_stream_says_that_it_lives() -> None:
    clock = Clock([0.01])
    stream(clock, frames_per_s=10, duration_s=5.0)
    assert 3 <= len(clock.events) <= 5


def test_any_device_can_be_given_a_stream(profile: DeviceProfile, small_net: Path) -> None:
    camera = profile.model_copy(update={"mode": "stream", "frames_per_s": 50.0, "max_duration_s": 0.4})
    [report] = measure([small_net], small_net, camera)
    assert isinstance(report, LatencyReport)
    assert report.stream is not None
    assert report.stream.num_frames == 20
    assert report.stream.latency_ms.num_samples == 20 - report.stream.num_dropped
    assert 0 < report.stream.sustained_fps <= 50
    assert measure([small_net], small_net, profile)[0].stream is None
