"""Asking the runner: what a measurement is to the rest of the package."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from secateur import progress
from secateur.benchmark.combining import combine
from secateur.benchmark.process import RunnerFailedError, RunnerProcess
from secateur.config import DeviceProfile
from secateur.errors import DeviceBusyError, InputError, MeasurementError, SecateurError, StudyError, did_you_mean
from secateur.results import DeviceFingerprint, LatencyReport
from secateur.turns import device_lock, host_lock, queue_lock

RUNNER = Path(__file__).with_name("runner")
LOCK_TIMEOUT_S = 600.0
"""A measurement waits so long for another one on the same device."""
LISTING_TIMEOUT_S = 60.0
MIN_ROUNDS_OF_A_PROCESS = 5

Measured = LatencyReport | MeasurementError | InputError
"""A model's report, or what is wrong with that model alone."""
Answer = dict[str, Any]


def measure(onnx_paths: Sequence[Path], reference: Path, profile: DeviceProfile, *, seed: int = 0) -> list[Measured]:
    """Time ONNX models on this host's device (or a service that it asks), paired and interleaved with a reference.

    One measurement at a time runs on a device; others of the same user wait for it. A model that cannot be measured
    does not stop the others.

    Args:
        onnx_paths: The models; their inputs have fixed sizes (an open batch size becomes 1).
        reference: What the ratios are relative to: the unpruned network.
        profile: The device, and how it is timed.
        seed: Of the inputs, of the order in each round, and of the bootstrap.

    Returns:
        For each model, in their order, a report or the error that belongs to it.

    Raises:
        InputError: A file is absent, or the reference is no model.
        StudyError: There is no such device, or it has no such setting.
        DeviceBusyError: Another measurement held the device for ten minutes.
        MeasurementError: The reference cannot be measured, or the runner cannot start.
    """
    if not onnx_paths:
        return []
    for path in (*onnx_paths, reference):
        _check_file(path)
    what = onnx_paths[0].name if len(onnx_paths) == 1 else f"{len(onnx_paths)} models"
    found: dict[int, Measured] = {}
    groups = [list(range(len(onnx_paths)))]
    with progress.track(f"measuring {what} on {profile.target}", total=len(onnx_paths)) as bar:
        while groups:
            group = groups.pop(0)
            try:
                reports = _measure_together([onnx_paths[i] for i in group], reference, profile, seed, bar)
                found.update(zip(group, reports, strict=True))
            except RunnerFailedError as error:
                culprit = error.network
                if culprit == 0:
                    raise
                if culprit is None and len(group) > 1:
                    groups += [[index] for index in group]  # one of them it was: each gets a process of its own
                else:
                    guilty = group[(culprit or 1) - 1]
                    found[guilty] = MeasurementError(f"{onnx_paths[guilty]}: {error}")
                    groups += [rest] if (rest := [index for index in group if index != guilty]) else []
    return [found[index] for index in range(len(onnx_paths))]


def _measure_together(
    onnx_paths: Sequence[Path], reference: Path, profile: DeviceProfile, seed: int, bar: progress.Bar
) -> list[Measured]:
    """Measure in as many fresh processes as the profile wants, and in more while intervals are wide and time is left.

    A model that fails in one of them has failed.
    """
    count = profile.num_processes
    share = {
        "max_duration_s": profile.max_duration_s / count,
        "min_rounds": max(MIN_ROUNDS_OF_A_PROCESS, -(-profile.min_rounds // count)),
        # The mean over the processes narrows what the rounds leave open; it may be half of the variance that is wanted.
        "target_half_width": profile.target_half_width * max(1.0, math.sqrt(count / 2)),
    }
    request = {"command": "measure", "profile": profile.model_dump() | share, "reference": str(reference.absolute())}

    def ask(indices: Sequence[int], number: int) -> Answer:
        models = [str(onnx_paths[index].absolute()) for index in indices]
        how = {"models": models, "seed": seed + number, "with_details": number == 0}
        answer = _ask({**request, **how}, profile, bar=bar, share=1 / count if number < count else 0.0)
        return {**answer, "networks": dict(zip([0, *(i + 1 for i in indices)], answer["networks"], strict=True))}

    answers = [ask(range(len(onnx_paths)), number) for number in range(count)]
    device = DeviceFingerprint.model_validate(answers[0]["device"])
    _check_precision(device, profile)
    outcomes = [_outcome(answers, index + 1, device, profile) for index in range(len(onnx_paths))]
    budget_s = profile.max_duration_s * len(onnx_paths)
    while sum(answer["duration_s"] for answer in answers) < budget_s and (noisy := _noisy(outcomes)):
        answers.append(ask(noisy, len(answers)))
        for index in noisy:
            outcomes[index] = _outcome(answers, index + 1, device, profile)
    return outcomes


def _noisy(outcomes: Sequence[Measured]) -> list[int]:
    return [index for index, outcome in enumerate(outcomes) if isinstance(outcome, LatencyReport) and outcome.is_noisy]


def _check_precision(device: DeviceFingerprint, profile: DeviceProfile) -> None:
    if profile.precision not in {None, device.precision}:
        progress.message(f"{device.device} runs in {device.precision}, not in {profile.precision} as the profile asks.")


def _outcome(answers: Sequence[Answer], index: int, device: DeviceFingerprint, profile: DeviceProfile) -> Measured:
    answers = [answer for answer in answers if index in answer["networks"]]
    for answer in answers:
        if message := answer["networks"][index].get("error"):
            return InputError(message) if answer["networks"][index]["kind"] == "input" else MeasurementError(message)
    return combine(answers, index, device, profile)


def predict(onnx_path: Path, images_NCHW: npt.NDArray[np.float32], profile: DeviceProfile) -> npt.NDArray[np.float32]:
    """Infer images on the device, one by one, and return its `logits_NK`.

    Raises:
        InputError: The file is absent or no model, or takes other images.
        StudyError: There is no such device, or it has no such setting.
        MeasurementError: The runner failed.
    """
    _check_file(onnx_path)
    with tempfile.TemporaryDirectory() as folder:
        images, logits = Path(folder, "images.npy"), Path(folder, "logits.npy")
        np.save(images, images_NCHW)
        request = {
            "command": "evaluate",
            "model": str(onnx_path.absolute()),
            "images": str(images),
            "logits": str(logits),
        }
        with progress.track(f"evaluating {onnx_path.name} on {profile.target}", total=1) as bar:
            _ask({**request, "profile": profile.model_dump(), "seed": 0}, profile, bar=bar)
        logits_NK: npt.NDArray[np.float32] = np.load(logits, allow_pickle=False)
    return logits_NK


def convert(onnx_path: Path, ir_path: Path) -> None:
    """Write an ONNX file as OpenVINO's IR: `ir_path`, a .xml, and its weights in a .bin beside it.

    Raises:
        InputError: The file is absent or no model.
        MeasurementError: OpenVINO cannot be imported, or the runner failed.
    """
    _check_file(onnx_path)
    request = {"command": "convert", "model": str(onnx_path.absolute()), "ir": str(ir_path.absolute())}
    _ask(request, DeviceProfile(), locks=False)


def unsupported_operations(onnx_paths: Sequence[Path], profile: DeviceProfile) -> list[list[str]]:
    """Return for each model the operations that the device does not have; the device itself need not be there.

    Raises:
        InputError: A file is absent or no model.
        StudyError: The profile's OpenVINO has no plugin for the device.
        MeasurementError: The runner failed.
    """
    for path in onnx_paths:
        _check_file(path)
    request = {"command": "query", "models": [str(path.absolute()) for path in onnx_paths]}
    unsupported: list[list[str]] = _ask({**request, "profile": profile.model_dump()}, profile, locks=False)[
        "unsupported"
    ]
    return unsupported


def describe(profile: DeviceProfile) -> DeviceFingerprint:
    """Return the fingerprint that a measurement under this profile would carry.

    Raises:
        StudyError: There is no such device, or it has no such setting.
        MeasurementError: The runner crashed, or was silent for too long and was killed.
    """
    answer = _ask({"command": "describe", "profile": profile.model_dump()}, profile, locks=False)
    return DeviceFingerprint.model_validate(answer["device"])


def list_devices() -> list[dict[str, str]]:
    """Return the OpenVINO devices of this host: `name`, and `full_name`, the maker's.

    Raises:
        MeasurementError: OpenVINO cannot be imported, or the runner failed.
    """
    profile = DeviceProfile(timeout_s=LISTING_TIMEOUT_S)
    devices: list[dict[str, str]] = _ask({"command": "devices"}, profile, locks=False)["devices"]
    return devices


def _ask(
    request: Mapping[str, Any],
    profile: DeviceProfile,
    *,
    locks: bool = True,
    bar: progress.Bar | None = None,
    share: float = 1.0,
) -> Answer:
    """Return the runner's result; whatever interrupts this kills the runner.

    Args:
        request: Without what is said about time and locks.
        profile: Names the interpreter.
        locks: Whether the device is to be held.
        bar: Shows what the runner says.
        share: Of the bar that belongs to this request.
    """
    request = {**request, **(_locks(profile) if locks else {}), "timeout_s": profile.timeout_s}
    shown, is_waiting = 0.0, False
    with RunnerProcess([_interpreter(profile), str(RUNNER)], profile.environment, request) as runner:
        for event in runner.events():
            match event["event"]:
                case "result":
                    return event
                case "error":
                    raise _error(event, profile)
                case "waiting" if not is_waiting:
                    is_waiting = True
                    progress.message(f"Measuring on {profile.target} has to wait: {event['reason']}.")
                case "progress" if bar is not None and "done" in event:
                    width = event["half_width"]
                    bar.advance((event["done"] - shown) * share, note=None if width is None else f"± {width:.1%}")
                    shown = event["done"]
    raise AssertionError("the runner's events end with an error")


def _interpreter(profile: DeviceProfile) -> str:
    if profile.interpreter is None:
        return sys.executable
    path = Path(profile.interpreter).expanduser()
    if not os.access(path, os.X_OK):
        raise StudyError(
            f"device profile {profile.name!r}: there is no interpreter {str(path)!r}. Name one that has numpy and"
            " OpenVINO; infra/devices/make-ncs2-environment makes the Neural Compute Stick's."
        )
    return str(path)


def _error(event: Mapping[str, Any], profile: DeviceProfile) -> SecateurError:
    message = event["message"]
    match event["kind"]:
        case "input":
            return InputError(message)
        case "device":
            return StudyError(f"device profile {profile.name!r}: {message}")
        case "busy":
            return DeviceBusyError(f"Device {profile.target!r} is busy: {message}. Try again when it has ended.")
        case _:
            return MeasurementError(message)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Name its files: {path}/*.onnx.")
    if not path.is_file():
        siblings = [str(sibling) for sibling in path.parent.glob("*.onnx")] if path.parent.is_dir() else []
        raise InputError(f"{path}: there is no such ONNX file.{did_you_mean(str(path), siblings)}")


def _locks(profile: DeviceProfile) -> dict[str, Any]:
    host = {"queue": str(queue_lock()), "host": str(host_lock()), "is_exclusive": profile.exclusive}
    return {"locks": {"device": str(device_lock(profile.target)), **host, "timeout_s": LOCK_TIMEOUT_S}}
