"""Measure a study's champion and baselines again, on this host's device. Needs OpenVINO, but no torch."""

from __future__ import annotations

from secateur.championship import Night
from secateur.config import DeviceProfile
from secateur.errors import StudyError
from secateur.results import OFF_THE_SHELF, UNPRUNED, Compressed, LatencyReport
from secateur.steps.measure_afresh import measure_afresh
from secateur.steps.record import now
from secateur.store import StudyFiles

CHAMPION = "champion"


def measure_night(files: StudyFiles, profile: DeviceProfile, time: str, place: str, *, seed: int) -> Night:
    """Measure the networks of a study once a night, paired with the unpruned one; write that down.

    Args:
        files: Of the study.
        profile: The device, and how it is timed.
        time: Names the night; what was measured in it is not measured again.
        place: Names this host among those that measure.
        seed: Of the measurement.

    Raises:
        StudyError: There is no network to measure, or no such device on this host.
        MeasurementError: The runner failed, or a network cannot be measured here.
        StoreError: The store could not read or write.
    """
    if (known := files.read_night(time, place)) is not None:
        return known
    networks = _networks(files)
    reference = networks.pop(UNPRUNED)
    outcomes = measure_afresh(files.store, profile, reference, networks, seed=seed)
    reports = {}
    for label, outcome in outcomes.items():
        if not isinstance(outcome, LatencyReport):
            raise outcome
        reports[label] = outcome
    keys = {label: network.onnx for label, network in {UNPRUNED: reference, **networks}.items()}
    night = Night(place=place, measured_at=now(), networks=keys, reports=reports)
    files.write_night(time, night)
    return night


def _networks(files: StudyFiles) -> dict[str, Compressed]:
    """Return the unpruned network, the schedule's own, and the champion if there is one."""
    alias, baselines = files.read_champion(), files.baselines()
    known = {label: record.compressed for label in (UNPRUNED, OFF_THE_SHELF) if (record := baselines.get(label))}
    if alias is not None:
        known[CHAMPION] = alias.champion.record.compressed
    found = {label: compressed for label, compressed in known.items() if compressed is not None}
    if UNPRUNED not in found or len(found) == 1:
        raise StudyError(
            f"study {files.name!r}: there is no network to measure again beside the unpruned one."
            f" 'secateur baseline {files.name}' makes the schedule's own, 'secateur champion' a champion."
        )
    return found
