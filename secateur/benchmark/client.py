"""Asking the runner: what a measurement is to the rest of the package."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secateur import progress
from secateur.benchmark.process import RunnerProcess
from secateur.config import DeviceProfile
from secateur.errors import DeviceBusyError, InputError, MeasurementError, StudyError, did_you_mean
from secateur.results import DeviceFingerprint, Interval, LatencyReport

RUNNER = Path(__file__).with_name("runner.py")
LOCK_TIMEOUT_S = 600.0
"""A measurement waits so long for another one on the same device."""
LISTING_TIMEOUT_S = 60.0


def measure(
    onnx_paths: Sequence[Path], reference: Path, profile: DeviceProfile, *, seed: int = 0
) -> list[LatencyReport]:
    """Time ONNX models on this host's device, paired and interleaved with a reference.

    One measurement at a time runs on a device; others of the same user wait for it.

    Args:
        onnx_paths: The models; their inputs have fixed sizes (an open batch size becomes 1).
        reference: What the ratios are relative to: the unpruned network.
        profile: The device, and how it is timed.
        seed: Of the inputs, of the order in each round, and of the bootstrap.

    Returns:
        A report for each model, in their order.

    Raises:
        InputError: A file is absent, or no model.
        StudyError: There is no such device, or it has no such setting.
        DeviceBusyError: Another measurement held the device for ten minutes.
        MeasurementError: The runner crashed, or was silent for too long and was killed.
    """
    if not onnx_paths:
        return []
    for path in (*onnx_paths, reference):
        _check_file(path)
    request = {
        "command": "measure",
        "profile": profile.model_dump(),
        "reference": str(reference.absolute()),
        "models": [str(path.absolute()) for path in onnx_paths],
        "seed": seed,
        "lock": str(_lock_path(profile.device)),
        "lock_timeout_s": LOCK_TIMEOUT_S,
        "timeout_s": profile.timeout_s,
    }
    what = onnx_paths[0].name if len(onnx_paths) == 1 else f"{len(onnx_paths)} models"
    with progress.track(f"measuring {what} on {profile.device}", total=len(onnx_paths)) as bar:
        reports = _ask(request, bar)["reports"]
    return [_report(fields, profile) for fields in reports]


def describe(profile: DeviceProfile) -> DeviceFingerprint:
    """Return the fingerprint that a measurement under this profile would carry.

    Raises:
        StudyError: There is no such device, or it has no such setting.
        MeasurementError: The runner crashed, or was silent for too long and was killed.
    """
    request = {"command": "describe", "profile": profile.model_dump(), "timeout_s": profile.timeout_s}
    return DeviceFingerprint.model_validate(_ask(request)["device"])


def list_devices() -> list[dict[str, str]]:
    """Return the OpenVINO devices of this host: `name`, and `full_name`, the maker's.

    Raises:
        MeasurementError: OpenVINO cannot be imported, or the runner failed.
    """
    devices: list[dict[str, str]] = _ask({"command": "devices", "timeout_s": LISTING_TIMEOUT_S})["devices"]
    return devices


def _ask(request: Mapping[str, Any], bar: progress.Bar | None = None) -> dict[str, Any]:
    """Return the runner's result; whatever interrupts this kills the runner."""
    shown, is_waiting = 0.0, False
    with RunnerProcess(RUNNER, request) as runner:
        for event in runner.events():
            match event["event"]:
                case "result":
                    return event
                case "error":
                    raise _error(event, request)
                case "waiting" if not is_waiting:
                    is_waiting = True
                    device, holder = request["profile"]["device"], event["holder"]
                    progress.message(f"{device} is being measured by process {holder}: waiting for it.")
                case "progress" if bar is not None and "done" in event:
                    width = event["half_width"]
                    bar.advance(event["done"] - shown, note=None if width is None else f"± {width:.1%}")
                    shown = event["done"]
    raise AssertionError("the runner's events end with an error")


def _error(event: Mapping[str, Any], request: Mapping[str, Any]) -> Exception:
    message = event["message"]
    profile = request.get("profile", {})
    match event["kind"]:
        case "input":
            return InputError(message)
        case "device":
            return StudyError(f"device profile {profile['name']!r}: {message}")
        case "busy":
            return DeviceBusyError(f"Device {profile['device']!r} is busy: {message}. Try again when it has ended.")
        case _:
            return MeasurementError(message)


def _report(fields: dict[str, Any], profile: DeviceProfile) -> LatencyReport:
    device = DeviceFingerprint.model_validate(fields["device"])
    ratio = Interval.model_validate(fields["latency_ratio"])
    if profile.precision not in {None, device.precision}:
        progress.message(f"{device.device} runs in {device.precision}, not in {profile.precision} as the profile asks.")
    values = {
        **fields,
        "device": device,
        "latency_ratio": ratio,
        "is_noisy": ratio.half_width > profile.target_half_width,
    }
    return LatencyReport.model_validate(values)


def _check_file(path: Path) -> None:
    if not path.is_file():
        siblings = [str(sibling) for sibling in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
        raise InputError(f"{path}: there is no such ONNX file.{did_you_mean(str(path), siblings)}")


def _lock_path(device: str) -> Path:
    """Return the file whose lock means that the device is being measured; one for each user."""
    try:
        folder = Path(tempfile.gettempdir()) / f"secateur-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise MeasurementError(f"The folder of the locks cannot be made: {exc}. Point TMPDIR at another one.") from None
    return folder / f"{re.sub(r'[^A-Za-z0-9.]', '_', device)}.lock"
