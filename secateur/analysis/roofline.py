"""What a layer moves and computes, against the best that the device was seen to do (Williams et al. 2009, Roofline).

The roof is measured, by networks of the kind that the device is good at: large convolutions, and copies of several
sizes, since a small network's data never leave the caches (Ilic et al. 2014, "Cache-aware roofline model").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from secateur.analysis.onnx_layers import LayerWork, work_of_onnx
from secateur.analysis.timing import measure_together
from secateur.config import DeviceProfile
from secateur.export import export_onnx
from secateur.findings import Copy, LayerCost, Roof
from secateur.results import Layer

_COPY_SIZES = (64, 128, 256, 512, 1024, 2048)
"""Height and width of three channels: in f32, 0.1 to 101 MB read and written."""
_CONVOLUTION_SIZE, _NUM_CHANNELS = 32, 256
NUM_RUNS = 5
_COUNTERS_ONLY = {"num_processes": 1, "min_rounds": 5, "max_duration_s": 0.1, "target_half_width": 1e9}
"""Of these runs, nothing but the device's counters is wanted."""
_WIDTHS = {"64": 8, "32": 4, "16": 2, "8": 1}


@dataclass(frozen=True, kw_only=True)
class LayerRun:
    """One layer as a device ran it."""

    work: LayerWork
    operation: Layer
    num_bytes: int


def operation_times(networks: Mapping[str, bytes], profile: DeviceProfile) -> dict[str, tuple[Layer, ...]]:
    """Return each network's operations, and the shortest time of each that any of several runs tells.

    A run's time is a mean over inferences, which a single interruption spoils; whatever disturbs only adds (Chen and
    Revels 2016, "Robust benchmarking in noisy environments").

    Args:
        networks: ONNX.
        profile: The device, and how it is timed.

    Returns:
        Network -> operations; none where the device keeps no counters.

    Raises:
        MeasurementError: The runner failed.
    """
    first = next(iter(networks.values()))
    shortest: dict[str, dict[str, Layer]] = {name: {} for name in networks}
    for _ in range(NUM_RUNS):
        for name, report in measure_together(networks, first, profile.model_copy(update=_COUNTERS_ONLY)).items():
            # What takes less than the counter's resolution is told of in some runs only.
            for operation in report.layers:
                known = shortest[name].setdefault(operation.name, operation)
                shortest[name][operation.name] = min(known, operation, key=lambda told: told.ms)
    return {name: tuple(operations.values()) for name, operations in shortest.items()}


def layer_runs(onnx: bytes, operations: Iterable[Layer], precision: str) -> dict[str, LayerRun]:
    """Match a device's operations with a network's layers, by name.

    Args:
        onnx: The network.
        operations: Of it.
        precision: The device's, for kernels that do not say theirs.

    Returns:
        Module name -> its run, in the network's order; without those that the device fused with another layer, or ran
        in less time than its counters tell.
    """
    by_name = {operation.name: operation for operation in operations}
    runs = {}
    for work in work_of_onnx(onnx, "the network"):
        operation = next((by_name[name] for name in work.names_on_device if name in by_name), None)
        if operation is not None and operation.ms > 0:
            width = bytes_of_a_number(operation.kernel, precision)
            num_bytes = width * (work.num_weights + work.num_inputs + work.num_outputs)
            runs[work.name] = LayerRun(work=work, operation=operation, num_bytes=num_bytes)
    return runs


def bytes_of_a_number(kernel: str, precision: str) -> int:
    """Return how wide the numbers are that a kernel works on.

    Args:
        kernel: Such as ``brgconv_avx512_amx_bf16`` or ``jit_avx512_FP32``.
        precision: The device's, for kernels that do not say theirs.
    """
    for text in (kernel, precision):
        if found := re.search(r"(?:bf|fp|f|i|u)(64|32|16|8)$", text.lower()):
            return _WIDTHS[found[1]]
    return _WIDTHS["32"]


def roof_networks(opset: int) -> dict[str, bytes]:
    """Return ONNX networks that show what a device can do: `products`, and a copy (a PReLU) of each size."""
    channels = _NUM_CHANNELS
    products = nn.Sequential(
        nn.Conv2d(3, channels, 1),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.Conv2d(2 * channels, 4 * channels, 1),
        nn.Conv2d(4 * channels, channels, 1),
    )
    copies = {_copy_name(size): export_onnx(nn.PReLU(), size, opset=opset, num_checks=0) for size in _COPY_SIZES}
    return {"products": export_onnx(products, _CONVOLUTION_SIZE, opset=opset, num_checks=0), **copies}


def roof_of(times: Mapping[str, Iterable[Layer]], runs: Iterable[LayerRun], precision: str) -> Roof:
    """Return the best rates of a device.

    Args:
        times: What it told of `roof_networks`; the largest copy took some time.
        runs: Its layers, those of `products` and of any other networks: the fastest is the roof.
        precision: In which it runs, by its own word.
    """
    copies = (_copy(size, times[_copy_name(size)], precision) for size in _COPY_SIZES)
    return Roof(
        macs_per_s=max(run.work.macs / run.operation.ms for run in runs) * 1e3,
        copies=tuple(copy for copy in copies if copy is not None),
    )


def _copy_name(size: int) -> str:
    return f"copy-{size}"


def _copy(size: int, operations: Iterable[Layer], precision: str) -> Copy | None:
    longest = max(operations, key=lambda operation: operation.ms, default=None)
    if longest is None or not longest.ms:
        return None  # it takes less than the counters tell
    return Copy(num_bytes=2 * 3 * size * size * bytes_of_a_number(longest.kernel, precision), ms=longest.ms)


def cost_of(run: LayerRun, roof: Roof) -> LayerCost:
    """Return what a layer cost, and what it would at the roof."""
    return LayerCost(
        ms=run.operation.ms,
        kernel=run.operation.kernel,
        num_bytes=run.num_bytes,
        macs=run.work.macs,
        arithmetic_ms=run.work.macs / roof.macs_per_s * 1e3,
        memory_ms=copy_ms(run.num_bytes, roof.copies),
    )


def copy_ms(num_bytes: int, copies: Sequence[Copy]) -> float:
    """Return the time to copy, between two sizes by interpolation, beyond the largest at its rate."""
    largest = copies[-1]
    if num_bytes > largest.num_bytes:
        return largest.ms * num_bytes / largest.num_bytes
    return float(np.interp(num_bytes, [0, *(c.num_bytes for c in copies)], [0.0, *(c.ms for c in copies)]))
