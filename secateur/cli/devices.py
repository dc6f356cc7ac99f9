"""`secateur benchmark` and `secateur devices`: no torch, no Prefect, so that they answer fast on an edge host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secateur import resources
from secateur.benchmark import list_devices, measure
from secateur.cli.display import progress_on_stderr
from secateur.cli.output import print_json, print_table, say
from secateur.config import load_device


def benchmark(models: Sequence[Path], reference: Path | None, device: str, *, as_json: bool) -> None:
    """Measure ONNX files and print ratios and times.

    Raises:
        InputError: A file is no model, or there is no such device.
        MeasurementError: The runner failed.
    """
    profile = load_device(device)
    reference = reference or models[0]
    with progress_on_stderr():
        reports = measure(models, reference, profile)
    first = reports[0]
    if as_json:
        shown = {"path", "latency_ratio", "is_reused", "device"}
        rest = [report.model_dump(mode="json", exclude=shown) for report in reports]
        print_json(
            {
                "device": first.device.model_dump(mode="json"),
                "reference": {
                    "path": str(reference),
                    "total_latency_ms": first.reference_total_latency_ms.model_dump(),
                    "latency_ms": first.reference_latency_ms,
                },
                "models": [
                    {"path": str(path), "latency_ratio": report.latency_ratio.model_dump(), **others}
                    for path, report, others in zip(models, reports, rest, strict=True)
                ],
            }
        )
        return
    columns = ("model", "latency ratio", "95 % interval", "p50 ms", "p90 ms", "device ms", "rounds", "")
    rows = [
        (
            path.name,
            f"{r.latency_ratio.estimate:.3f}",
            f"[{r.latency_ratio.low:.3f}, {r.latency_ratio.high:.3f}]",
            f"{r.total_latency_ms.p50:.3f}",
            f"{r.total_latency_ms.p90:.3f}",
            "-" if r.latency_ms is None else f"{r.latency_ms:.3f}",
            r.num_rounds,
            "noisy" if r.is_noisy else "",
        )
        for path, r in zip(models, reports, strict=True)
    ]
    print_table(f"Latency against {reference.name} ({first.reference_total_latency_ms.p50:.3f} ms)", columns, rows)
    d = first.device
    threads = "" if d.num_threads is None else f", {d.num_threads} threads"
    say(f"{d.full_name} ({d.device}, {d.precision}{threads}), OpenVINO {d.runtime}")


def devices(*, as_json: bool) -> None:
    """List devices and profiles."""
    found = list_devices()
    profiles = [load_device(path.stem) for path in sorted(resources.find("infra/devices").glob("*.yaml"))]
    if as_json:
        print_json({"devices": found, "profiles": [profile.model_dump(mode="json") for profile in profiles]})
        return
    print_table("Devices of this host", ("device", "name"), [(d["name"], d["full_name"]) for d in found])
    columns = ("profile", "device", "threads", "precision")
    rows = [(p.name, p.device, p.num_threads or "auto", p.precision or "auto") for p in profiles]
    print_table("Device profiles", columns, rows)
