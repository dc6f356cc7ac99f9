"""One model on the device: its buffers, and the timing of its blocks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from secateur.benchmark.runner.device import Device, Operation, Session
from secateur.benchmark.runner.host import PeakMemory, num_preemptions
from secateur.benchmark.runner.interval import paired_ratios
from secateur.benchmark.runner.problem import RunnerError

MIN_STEADY_INFERENCES = 10


class Network:
    """One compiled model, its buffers, and what was timed.

    Args:
        device: Where it runs.
        path: The ONNX file.
        rng: Draws the input, uniform in [0, 1).

    Raises:
        RunnerError: The file is no model, an input's shape is open, the device cannot run it, or it yields no numbers.
    """

    def __init__(self, device: Device, path: str, rng: np.random.Generator) -> None:
        self.path = Path(path)
        memory = PeakMemory()
        start = time.perf_counter()
        self.model = device.read(path)
        self.read_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        self.session = _compiled(device, self.model, path)
        self.compile_ms = (time.perf_counter() - start) * 1e3
        self.inputs = self.session.new_inputs(rng)
        self.outputs: list[np.ndarray[Any, Any]] = []
        self.first_inference_ms = self.infer() * 1e3
        self.peak_memory_bytes = memory.bytes()
        self.outputs = self.session.new_outputs()
        self.infer()
        if not all(np.isfinite(output).all() for output in self.outputs if output.dtype.kind == "f"):
            raise RunnerError("input", f"{path}: an output is NaN or infinite on device {device.name!r}.")
        self.fastest_s = self.first_inference_ms / 1e3
        self.samples_s: list[float] = []
        """Total latencies one after another, as an application waits for them."""
        self.rounds_s: list[float] = []
        """The shortest total latency in each round's block."""
        self.was_interrupted: list[bool] = []
        """Whether another process was given the core meanwhile, for each round."""
        self.spent_s = 0.0

    def infer(self) -> float:
        """Return the total latency in seconds: copy the inputs in, infer, copy the outputs out."""
        session = self.session
        start = time.perf_counter()
        session.copy_in(self.inputs)
        session.infer()
        session.copy_out(self.outputs)
        return time.perf_counter() - start

    def warm_up(self, num_warmups: int) -> None:
        """Infer untimed, but for `fastest_s`."""
        self.fastest_s = min([self.infer() for _ in range(num_warmups)], default=self.fastest_s)

    def run_block(self, num_inferences: int) -> float:
        """Time one block and return how long all of it took, in seconds.

        A first inference is not counted: it pays for the caches that another model's block has filled, and as it does
        so once for any network, it would make a short one look slower. The block's time is its shortest inference:
        whatever disturbs a machine only adds time (Chen and Revels 2016, Robust benchmarking in noisy environments).
        """
        unsettled_s = self.infer()
        num_switches = num_preemptions()
        samples_s = [self.infer() for _ in range(num_inferences)]
        self.was_interrupted.append(num_preemptions() > num_switches)
        self.rounds_s.append(min(samples_s))
        return unsettled_s + sum(samples_s)

    def run_steadily(self, settling_s: float, duration_s: float) -> None:
        """Take `samples_s`, `MIN_STEADY_INFERENCES` at least, after a time in which the caches fill again."""
        start = time.perf_counter()
        while time.perf_counter() - start < settling_s:
            self.infer()
        start = time.perf_counter()
        while len(self.samples_s) < MIN_STEADY_INFERENCES or time.perf_counter() - start < duration_s:
            self.samples_s.append(self.infer())

    def ratios_to(self, reference: Network, min_rounds: int) -> np.ndarray[Any, Any]:
        """Return the ratios of this model's blocks to the reference's, paired by round; see `paired_ratios`."""
        pairs = zip(self.was_interrupted, reference.was_interrupted)  # noqa: B905 (Python 3.8)
        return paired_ratios(self.rounds_s, reference.rounds_s, [a or b for a, b in pairs], min_rounds)


def _compiled(device: Device, model: Any, path: str) -> Session:
    try:
        return device.compile(model, path)
    except RunnerError:
        unsupported = device.unsupported(model)  # asked only now: it takes as long as compiling
        if not unsupported:
            raise
        named = ", ".join(unsupported[:5]) + (f" and {len(unsupported) - 5} more" if len(unsupported) > 5 else "")
        raise RunnerError("input", f"{path}: device {device.name!r} does not support {named}.") from None


class CountedNetwork:
    """A network compiled once more, with the device's performance counters; they slow inference."""

    def __init__(self, device: Device, network: Network) -> None:
        self._session = device.compile(network.model, str(network.path), is_counting=True)
        self._session.copy_in(network.inputs)
        self._counts_mean = device.counts_mean
        self._num_inferences, self._total_ms = 0, 0.0

    def infer(self) -> float:
        """Infer once and return the sum of the operations' times in milliseconds."""
        self._session.infer()
        told_ms = sum(operation["ms"] for operation in self.operations())
        self._num_inferences, before_ms = self._num_inferences + 1, self._total_ms
        self._total_ms = told_ms * self._num_inferences if self._counts_mean else self._total_ms + told_ms
        return self._total_ms - before_ms

    def operations(self) -> list[Operation]:
        """Return the operations that took part in the last inference, or their means over all so far."""
        return self._session.operations()
