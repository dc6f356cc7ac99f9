"""Measure networks as if for the first time: what chose them must not vouch for them. Needs OpenVINO, but no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from secateur import benchmark
from secateur.benchmark import Measured
from secateur.config import DeviceProfile
from secateur.results import Compressed
from secateur.store import Store

MIN_PROCESSES = 5
"""Fresh processes, as compilations differ."""


def measure_afresh(
    store: Store, profile: DeviceProfile, reference: Compressed, networks: Mapping[str, Compressed], *, seed: int
) -> dict[str, Measured]:
    """Return each network's latency report, or what is wrong with it; cached latencies are not looked at.

    Networks of one architecture are measured once. All are measured together, paired with the reference, in at least
    five fresh processes.

    Raises:
        StudyError: There is no such device on this host.
        MeasurementError: The runner failed, or cannot measure the reference.
        StoreError: The store could not read.
    """
    architectures = {network.architecture: network for network in networks.values()}
    with contextlib.ExitStack() as stack:
        paths = [
            stack.enter_context(store.local_copy(network.onnx, suffix=".onnx"))
            for network in (reference, *architectures.values())
        ]
        careful = profile.model_copy(update={"num_processes": max(profile.num_processes, MIN_PROCESSES)})
        outcomes = benchmark.measure(paths[1:], paths[0], careful, seed=seed)
    found = dict(zip(architectures, outcomes, strict=True))
    return {label: found[network.architecture] for label, network in networks.items()}
