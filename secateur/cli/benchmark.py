"""`secateur benchmark`: no Prefect, and torch only to read a dataset, so that it answers fast on an edge host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from secateur.benchmark import Measured, measure
from secateur.cli.display import progress_on_stderr
from secateur.cli.output import print_json, print_table, say
from secateur.cli.quality import Evaluation, evaluate_on, worst_classes
from secateur.config import load_device
from secateur.errors import MeasurementError
from secateur.results import DeviceFingerprint, DeviceQuality, Interval, LatencyReport

_SCHEMA_VERSION = 1
_SIGNIFICANT = 0.001
"""Drift below this p-value is told: ten models are measured often, and an accident should not be news."""


def benchmark(
    models: Sequence[Path],
    reference: Path | None,
    device: str,
    processes: int | None,
    dataset: str | None,
    *,
    as_json: bool,
) -> None:
    """Measure ONNX files and print ratios, times and a verdict.

    Raises:
        InputError: A file is absent, the reference is no model, or there is no such device.
        DatasetError: There is no such dataset, or it is none of these networks'.
        MeasurementError: The runner failed, or a model could not be measured; the others are printed before.
    """
    profile = load_device(device)
    if processes is not None:
        profile = profile.model_copy(update={"num_processes": processes})
    reference = reference or models[0]
    with progress_on_stderr():
        outcomes = list(zip(models, measure(models, reference, profile), strict=True))
        sound = [path for path, outcome in outcomes if isinstance(outcome, LatencyReport)]
        evaluation = evaluate_on(dataset, sound, profile) if dataset is not None and sound else Evaluation((), {})
    if as_json:
        print_json(_document(outcomes, reference, evaluation))
    else:
        _print(outcomes, reference, evaluation)
    if problems := [str(outcome) for _, outcome in outcomes if not isinstance(outcome, LatencyReport)]:
        raise MeasurementError("\n".join(problems))


def verdict(name: str, reference: str, ratio: Interval, *, is_noisy: bool) -> str:
    """Return in a sentence what a latency ratio says."""
    speedup, low, high = 1 / ratio.estimate, 1 / ratio.high, 1 / ratio.low
    if ratio.low <= 1 <= ratio.high:
        said = f"{name} and {reference} cannot be told apart: {speedup:.3g} times as fast, {low:.3g} to {high:.3g}"
    elif ratio.estimate < 1:
        said = f"{name} is {speedup:.2f} times as fast as {reference}, {low:.2f} to {high:.2f}"
    else:
        said = f"{name} takes {ratio.estimate:.2f} times as long as {reference}, {ratio.low:.2f} to {ratio.high:.2f}"
    return f"{said} (noisy: the interval is wider than the profile asks)." if is_noisy else f"{said}."


def _document(outcomes: Sequence[tuple[Path, Measured]], reference: Path, evaluation: Evaluation) -> dict[str, Any]:
    reports = [outcome for _, outcome in outcomes if isinstance(outcome, LatencyReport)]
    shared: dict[str, Any] = {"path": str(reference)}
    if reports:
        shared["total_latency_ms"] = reports[0].reference_total_latency_ms.model_dump()
        shared["latency_ms"] = reports[0].reference_latency_ms
    return {
        "schema_version": _SCHEMA_VERSION,
        "device": reports[0].device.model_dump(mode="json") if reports else None,
        "reference": shared,
        "models": [_model(path, outcome, reference, evaluation.qualities.get(path)) for path, outcome in outcomes],
        **({"class_names": evaluation.class_names} if evaluation.qualities else {}),
    }


def _model(path: Path, outcome: Measured, reference: Path, quality: DeviceQuality | None) -> dict[str, Any]:
    if not isinstance(outcome, LatencyReport):
        return {"path": str(path), "error": str(outcome)}
    said = verdict(path.name, reference.name, outcome.latency_ratio, is_noisy=outcome.is_noisy)
    fields = outcome.model_dump(mode="json", exclude={"is_reused", "device"})
    evaluated = {} if quality is None else {"quality": quality.model_dump(mode="json")}
    return {"path": str(path), "verdict": said, **fields, **evaluated}


_WORTH_A_WORD = 0.03
"""A share of the host's time."""

_COLUMNS = (
    "model", "latency ratio", "95 % interval", "p50 ms", "p90 ms", "p99 ms", "device ms", "images/s", "compile ms",
    "memory MB", "mJ", "of it idle", "rounds", "top1 %", "top5 %", "",
)  # fmt: skip


def _print(outcomes: Sequence[tuple[Path, Measured]], reference: Path, evaluation: Evaluation) -> None:
    measured = [(path, outcome) for path, outcome in outcomes if isinstance(outcome, LatencyReport)]
    if not measured:
        return
    rows = [_row(path, report, evaluation.qualities.get(path)) for path, report in measured]
    is_shown = [any(row[i] != "-" for row in rows) for i in range(len(_COLUMNS))]
    first = measured[0][1]
    print_table(
        f"Latency against {reference.name} ({first.reference_total_latency_ms.p50:.3f} ms)",
        [column for column, shown in zip(_COLUMNS, is_shown, strict=True) if shown],
        [[cell for cell, shown in zip(row, is_shown, strict=True) if shown] for row in rows],
    )
    for path, report in measured:
        for line in (*_network(path.name, report), *_stream(path.name, report)):
            say(line)
        if path != reference:
            say(verdict(path.name, reference.name, report.latency_ratio, is_noisy=report.is_noisy))
        if (drift := report.ratio_drift) and drift.p_value < _SIGNIFICANT:
            say(f"{path.name}: the ratio drifted by {drift.change:+.1%} while it was measured: measure again.")
    for path, quality in evaluation.qualities.items():
        say(f"{path.name}: {worst_classes(quality, evaluation.class_names)}")
    if first.energy is not None:
        say(f"Energy of one inference as {first.energy.sensor} counts it.")
    if text := _beside(first.conditions):
        say(text)
    say(_conditions(first.device))


def _row(path: Path, report: LatencyReport, quality: DeviceQuality | None) -> list[str]:
    ratio, total, energy = report.latency_ratio, report.total_latency_ms, report.energy
    return [
        path.name,
        f"{ratio.estimate:.3f}",
        f"[{ratio.low:.3f}, {ratio.high:.3f}]",
        f"{total.p50:.3f}",
        f"{total.p90:.3f}",
        _number(total.p99, ".3f"),
        _number(report.latency_ms, ".3f"),
        _number(report.throughput_fps, ".0f"),
        f"{report.compile_ms:.0f}",
        _number(report.peak_memory_bytes and report.peak_memory_bytes / 1e6, ".1f"),
        _number(None if energy is None else energy.energy_mj, ".3g"),
        _number(None if energy is None else energy.idle_energy_mj, ".3g"),
        str(report.num_rounds),
        _number(None if quality is None else quality.top1, ".2f"),
        _number(None if quality is None else quality.top5, ".2f"),
        "noisy" if report.is_noisy else "-",
    ]


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _conditions(device: DeviceFingerprint) -> str:
    count = device.num_threads
    threads = "" if count is None else f", {count} thread{'' if count == 1 else 's'}"
    return f"{device.full_name} ({device.device}, {device.precision}{threads}), {device.software}"


_NETWORK_SOURCES = {
    "statistics": "the rest beside the service's own time",
    "empty request": "a request of the same size that infers nothing",
}


def _network(name: str, report: LatencyReport) -> list[str]:
    if report.network is None:
        return []
    took_ms, total_ms = report.network.latency_ms, report.total_latency_ms.p50
    how = _NETWORK_SOURCES[report.network.source]
    return [f"{name}: {took_ms:.3f} of {total_ms:.3f} ms are the network's ({how})."]


def _stream(name: str, report: LatencyReport) -> list[str]:
    if (stream := report.stream) is None:
        return []
    latency = stream.latency_ms
    p99 = "" if latency.p99 is None else f", p99 {latency.p99:.3f}"
    said = (
        f"{name}: of {stream.num_frames} frames, {stream.frames_per_s:g} a second, {stream.num_dropped} were dropped;"
        f" {stream.sustained_fps:.4g} a second sustained; p50 {latency.p50:.3f}, p90 {latency.p90:.3f}{p99} ms from due"
        " to done."
    )
    return [said]


def _beside(conditions: dict[str, Any]) -> str | None:
    """Return what took a share of the host that is worth a word while it was measured."""
    beside = conditions.get("beside", {})
    whose = {"ours_share": "other work of ours", "others_share": "other programs", "stolen_share": "other machines"}
    told = [f"{name} {beside[key]:.0%}" for key, name in whose.items() if beside.get(key, 0.0) > _WORTH_A_WORD]
    if not told:
        return None
    busiest = f" (busiest: {beside['busiest']})" if "busiest" in beside else ""
    return f"Beside it, of the host's time, {', '.join(told)}{busiest}. Pairing takes most of that out of the ratio."
