"""Measure compressed trials on this host's device. Needs OpenVINO, but neither torch nor Ax."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence

from secateur import benchmark
from secateur.benchmark import Measured
from secateur.config import DeviceProfile
from secateur.errors import NotFoundError, StudyError
from secateur.results import UNPRUNED, Compressed, DeviceFingerprint, LatencyReport, TrialRecord
from secateur.steps.record import measured, not_measured
from secateur.store import Store, StudyFiles, get_json, put_json

_IDENTITY_VERSION = 1
"""Part of every cache key: raised when the same networks come to be measured otherwise."""


def measure(files: StudyFiles, profile: DeviceProfile, labels: Sequence[str], *, seed: int) -> list[TrialRecord]:
    """Time compressed trials (or baselines), together, paired with the unpruned network; write their records.

    An architecture that was measured on this device before is not measured again. A network that the device cannot run
    fails its own trial alone.

    Raises:
        StudyError: There is no such device on this host, or no unpruned network yet.
        MeasurementError: The runner failed, or cannot measure the unpruned network.
        StoreError: The store could not read or write.
    """
    records = {label: record for label in labels if (record := files.read_record(label)).state == "compressed"}
    if not records:
        return []
    started = time.perf_counter()
    reference = files.read_record(UNPRUNED).compressed
    if reference is None:
        raise StudyError(f"study {files.name!r}: there is no unpruned network to compare with.")
    networks = {label: record.compressed for label, record in records.items() if record.compressed is not None}
    with benchmark.energy_ledger().account() as energy:
        reports = _measure_architectures(files.store, profile, reference, list(networks.values()), seed)
    seconds = (time.perf_counter() - started) / len(records)
    shares = {phase: joules / len(records) for phase, joules in energy.under("measure").items()}
    records = {k: r.model_copy(update={"energy_j": {**r.energy_j, **shares}}) for k, r in records.items()}
    finished = [_finished(record, reports[networks[label].architecture], seconds) for label, record in records.items()]
    for record in finished:
        files.write_record(record)
    return finished


def _finished(record: TrialRecord, outcome: Measured, seconds: float) -> TrialRecord:
    if isinstance(outcome, LatencyReport):
        return measured(record, outcome, seconds)
    return not_measured(record, outcome, seconds)


def _measure_architectures(
    store: Store, profile: DeviceProfile, reference: Compressed, networks: Sequence[Compressed], seed: int
) -> dict[str, Measured]:
    """Return a report for each architecture among `networks`, known or new, or what is wrong with it."""
    device = benchmark.describe(profile)
    by_architecture = {network.architecture: network for network in networks}
    keys = {name: latency_key(name, reference.architecture, profile, device) for name in by_architecture}
    known = {name: _known(store, key) for name, key in keys.items()}
    reports: dict[str, Measured] = {name: report for name, report in known.items() if report is not None}
    if new := [network for name, network in by_architecture.items() if name not in reports]:
        with contextlib.ExitStack() as stack:
            paths = [stack.enter_context(store.local_copy(n.onnx, suffix=".onnx")) for n in (reference, *new)]
            fresh = benchmark.measure(paths[1:], paths[0], profile, seed=seed)
        for network, report in zip(new, fresh, strict=True):
            if isinstance(report, LatencyReport) and not report.is_noisy:  # what was noisy once deserves another chance
                put_json(store, keys[network.architecture], report.model_dump(mode="json"))
            reports[network.architecture] = report
    return reports


def latency_key(architecture: str, reference: str, profile: DeviceProfile, device: DeviceFingerprint) -> str:
    """Return the key under which the latency of one architecture, paired with another, is kept."""
    parts = [_IDENTITY_VERSION, architecture, reference, profile.model_dump(), device.model_dump()]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"cache/latency/{digest}.json"


def _known(store: Store, key: str) -> LatencyReport | None:
    try:
        return LatencyReport.model_validate(get_json(store, key)).model_copy(update={"is_reused": True})
    except NotFoundError:
        return None
