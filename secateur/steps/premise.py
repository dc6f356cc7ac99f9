"""Is latency a matter of shape here? Trained networks against themselves before they were trained."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.stats import t as student

from secateur import benchmark, progress
from secateur.candidate import Workshop
from secateur.config import Study
from secateur.errors import StudyError
from secateur.findings import Premise, TrainedTwin
from secateur.parameters import most_epochs
from secateur.results import Compressed, DeviceFingerprint, Interval, LatencyReport, StudyResults, TrialRecord
from secateur.steps.compress import unpruned_checkpoint
from secateur.steps.gate import OperationGate
from secateur.store import StudyFiles
from secateur.turns import working

TOLERANCE = 0.01
"""A mean change of latency that counts as none, relatively."""


def examine_premise(files: StudyFiles, study: Study, num_networks: int) -> Premise:
    """Measure trained networks of a study, each paired with itself before it was trained; keep what was found.

    The untrained twins are made again from the trials' parameters. Nothing measured before is used: a ratio of two
    figures from different hours would tell of the hours.

    Args:
        files: Of a study whose trials were trained.
        study: As it was begun.
        num_networks: How many, each of another shape: the study's first.

    Raises:
        StudyError: The study does not train its networks, or has too few; or the device is not on this host.
        MeasurementError: A network cannot be measured.
    """
    records = _trained(files.results(), study)
    if len(records) < num_networks:
        raise StudyError(
            f"study {study.name!r}: {num_networks} trained networks of different shapes are needed, and there are"
            f" {len(records)}. Run more trials ('secateur sweep {study.name} --trials N'), or ask for fewer (--num)."
        )
    pairs = _with_twins(files, study, records[:num_networks])
    twins, device = [], None
    with progress.track("measuring trained networks against untrained ones", total=len(pairs)) as bar:
        for label, trained, untrained in pairs:
            report = _measure(files, study, trained, untrained)
            twins.append(TrainedTwin(trial=label, latency_ratio=report.latency_ratio, is_noisy=report.is_noisy))
            device = report.device
            bar.advance()
    assert device is not None
    premise = equivalence(twins, device)
    files.write_premise(premise)
    return premise


def equivalence(twins: Sequence[TrainedTwin], device: DeviceFingerprint, tolerance: float = TOLERANCE) -> Premise:
    """Test by two one-sided t-tests whether the mean change of latency lies within the tolerance (Schuirmann 1987).

    Args:
        twins: Two at least.
        device: On which they were measured.
        tolerance: Relative; on the scale of logarithms the same up and down.
    """
    logs = [math.log(twin.latency_ratio.estimate) for twin in twins]
    mean, spread, num_free = fmean(logs), stdev(logs), len(logs) - 1
    error = max(spread / math.sqrt(len(logs)), 1e-9)  # of equal ratios nothing is divided by zero
    half_width = float(student.ppf(0.95, num_free)) * error
    return Premise(
        twins=tuple(twins),
        tolerance=tolerance,
        mean_ratio=Interval(
            estimate=math.exp(mean),
            low=math.exp(mean - half_width),
            high=math.exp(mean + half_width),
            standard_error=math.exp(mean) * error,
        ),
        spread=spread,
        p_value=float(student.sf((math.log1p(tolerance) - abs(mean)) / error, num_free)),
        device=device,
    )


def _trained(results: StudyResults, study: Study) -> list[TrialRecord]:
    """Return the trials whose networks were trained to the end, the first of each shape."""
    if most_epochs(study) == 0:
        raise StudyError(
            f"study {study.name!r}: nothing is trained (training.epochs is 0), so there is no before and after."
        )
    by_shape: dict[str, TrialRecord] = {}
    for trial in results.trials:
        if trial.is_usable and trial.is_trained and trial.compressed is not None:
            by_shape.setdefault(trial.compressed.architecture, trial)
    return list(by_shape.values())


@working()
def _with_twins(
    files: StudyFiles, study: Study, records: Sequence[TrialRecord]
) -> list[tuple[str, Compressed, Compressed]]:
    """Return each trial's label, its trained network, and the same network untrained."""
    workshop, unpruned, pairs = (
        Workshop(study=study, store=files.store, gate=OperationGate(study.device)),
        unpruned_checkpoint(files),
        [],
    )
    with progress.track("making the untrained twins", total=len(records)) as bar:
        for record in records:
            assert record.compressed is not None
            own = workshop.for_trial(record.parameters, record.seed)
            twin = own.untrained(own.prune(unpruned, record.parameters))
            if twin.architecture != record.compressed.architecture:
                raise StudyError(
                    f"study {study.name!r}: training changes the shape of trial {record.label}, so that its latency"
                    " cannot be known before. Leave the gate out (gate: false)."
                )
            pairs.append((record.label, record.compressed, twin))
            bar.advance()
    return pairs


def _measure(files: StudyFiles, study: Study, trained: Compressed, untrained: Compressed) -> LatencyReport:
    with contextlib.ExitStack() as stack:
        after, before = (
            stack.enter_context(files.store.local_copy(n.onnx, suffix=".onnx")) for n in (trained, untrained)
        )
        (report,) = benchmark.measure([after], before, study.device, seed=study.search.seed)
    if not isinstance(report, LatencyReport):
        raise report
    return report
