"""Frames that arrive at a fixed rate, whether or not the device is ready for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from secateur.benchmark.runner.interval import quantiles

SPIN_S = 1e-3
"""Before a frame is due, the clock is watched so long: a sleep may last longer than it was asked to."""
SIGN_OF_LIFE_S = 1.0


class Infers(Protocol):
    """A network that is ready."""

    def infer(self) -> float:
        """Infer once."""


class Output(Protocol):
    """The way back to the one who asked."""

    def emit(self, event: str, **fields: Any) -> None:
        """Say something; also a sign of life."""


def run_stream(
    network: Infers,
    profile: dict[str, Any],
    output: Output,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Feed a network for `max_duration_s` with `frames_per_s`, one frame at a time.

    Frame i is due at i / `frames_per_s`. One that comes while `queue_length` others wait is dropped. A frame's latency
    counts from when it was due, not from when its turn came: else a device that falls behind would slow down its own
    load and look fast, which Tene (2015, How not to measure latency) calls coordinated omission.

    Arrivals are known beforehand and the device takes one frame after the other, so that the queue needs no thread:
    what came during an inference is queued or dropped in order when it ends.

    Returns:
        `frames_per_s` as asked for, `sustained_fps`, `num_frames`, `num_dropped`, and `latency_ms`, quantiles in
        milliseconds of the frames that were not dropped.
    """
    period_s, capacity = 1 / profile["frames_per_s"], profile["queue_length"]
    num_frames = max(1, round(profile["max_duration_s"] * profile["frames_per_s"]))
    waiting: deque[float] = deque()
    latencies_ms: list[float] = []
    num_arrived, num_dropped, told = 0, 0, clock()
    start = clock()
    while num_arrived < num_frames or waiting:
        while num_arrived < num_frames and num_arrived * period_s <= clock() - start:
            if len(waiting) < capacity:
                waiting.append(num_arrived * period_s)
            else:
                num_dropped += 1
            num_arrived += 1
        if waiting:
            due_s = waiting.popleft()
            network.infer()
            latencies_ms.append((clock() - start - due_s) * 1e3)
        else:
            sleep(max(0.0, num_arrived * period_s - (clock() - start) - SPIN_S))
        if clock() - told >= SIGN_OF_LIFE_S:
            told = clock()
            output.emit("progress", phase="streaming")
    return {
        "frames_per_s": profile["frames_per_s"],
        "sustained_fps": len(latencies_ms) / max(clock() - start, num_frames * period_s),
        "num_frames": num_frames,
        "num_dropped": num_dropped,
        "latency_ms": quantiles(latencies_ms),
    }
