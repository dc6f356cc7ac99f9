"""Networks in memory, measured together."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from secateur import benchmark
from secateur.config import DeviceProfile
from secateur.results import LatencyReport

Name = TypeVar("Name", int, str)


def measure_together(
    networks: Mapping[Name, bytes], reference: bytes, profile: DeviceProfile
) -> dict[Name, LatencyReport]:
    """Measure ONNX networks, paired with a reference, and return their reports.

    Raises:
        MeasurementError: The runner failed, or one of them could not be measured.
    """
    with tempfile.TemporaryDirectory() as folder:
        reference_path = Path(folder, "reference.onnx")
        reference_path.write_bytes(reference)
        paths = {name: Path(folder, f"{name}.onnx") for name in networks}
        for name, path in paths.items():
            path.write_bytes(networks[name])
        outcomes = benchmark.measure(list(paths.values()), reference_path, profile)
    reports = {}
    for name, outcome in zip(networks, outcomes, strict=True):
        if not isinstance(outcome, LatencyReport):
            raise outcome
        reports[name] = outcome
    return reports
