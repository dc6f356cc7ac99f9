"""What a device is to the measurement: one of OpenVINO's, by the interface that this Python has, or a service."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import numpy as np

from secateur.benchmark.runner.problem import RunnerError

if TYPE_CHECKING:
    from secateur.benchmark.runner.network import Network


class Operation(TypedDict):
    """One operation as the device runs it."""

    name: str
    type: str
    kernel: str
    ms: float
    """Its time in one inference."""


class Session(Protocol):
    """A compiled model with the buffers of one inference at a time."""

    def copy_in(self, values: list[np.ndarray[Any, Any]]) -> None:
        """Copy the inputs into the device's buffers."""

    def infer(self) -> None:
        """Infer once, and wait for it."""

    def copy_out(self, values: list[np.ndarray[Any, Any]]) -> None:
        """Copy the outputs out of the device's buffers."""

    def new_inputs(self, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
        """Draw inputs, uniform in [0, 1)."""

    def new_outputs(self) -> list[np.ndarray[Any, Any]]:
        """Make room for the outputs; after the first inference."""

    def operations(self) -> list[Operation]:
        """Return what the device's counters say of each operation that ran; where it was compiled to count."""

    def fingerprint(self) -> dict[str, Any]:
        """Return `num_threads` and `precision` as the compiled model has them, not as they were asked for."""


class Device(Protocol):
    """An OpenVINO device, or a service, opened as a profile says."""

    name: str
    has_counters: bool
    counts_mean: bool
    """Its counters tell the mean over all inferences so far, not the last one."""

    def read(self, path: str) -> Any:
        """Read an ONNX file; an open batch size becomes 1."""

    def unsupported(self, model: Any) -> list[str]:
        """Return the operations of a model that the device does not have, in the model's words."""

    def compile(self, model: Any, path: str, *, is_counting: bool = False) -> Session:
        """Compile a model as the profile says."""

    def details(self, network: Network, seconds: float) -> dict[str, Any]:
        """Find out what else this kind of device can tell of a network, in about so many seconds.

        Returns:
            Of OpenVINO's `throughput_fps`, inferences a second with `num_requests` at once, as many as the device
            wants; of a service `network`, and its own time where it keeps statistics.
        """

    def fingerprint(self) -> dict[str, Any]:
        """Return `Session.fingerprint` of the smallest of models."""

    def describe(self) -> dict[str, Any]:
        """Return `device`, `full_name`, the maker's, and `runtime`, with its version."""


def open_device(profile: dict[str, Any], *, must_be_there: bool = True) -> Device:
    """Open a service, or a device by the interface that the installed OpenVINO has.

    Raises:
        RunnerError: OpenVINO is absent, has no such device, or the device no such setting; the service is not there.
    """
    if profile["kind"] == "http":
        from secateur.benchmark.runner import service

        return service.Device(profile, open_device(service.LOCAL), must_be_there)
    opened: Device = _interface().open_device(profile, must_be_there)
    return opened


def list_devices() -> list[dict[str, str]]:
    """Return `name` and `full_name` of every OpenVINO device of this host."""
    devices: list[dict[str, str]] = _interface().list_devices()
    return devices


def save_ir(source: str, target: str) -> None:
    """Write the model of one file as OpenVINO's IR, a .xml, with its weights, f32, in a .bin beside it.

    Raises:
        RunnerError: The file is no model, or OpenVINO is absent.
    """
    _interface().save_ir(source, target)


def _interface() -> Any:
    """Import OpenVINO, once nothing that it prints can spoil the protocol.

    Its converter is left out: it takes longer than all the rest, and its import reports to a server.
    """
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    try:
        import openvino

        if hasattr(openvino, "Core"):
            from secateur.benchmark.runner import openvino_current as interface
        else:
            from secateur.benchmark.runner import openvino_2021 as interface  # type: ignore[no-redef]
    except ImportError as exc:
        message = f"{sys.executable} cannot import OpenVINO: {exc}. Install it: pip install 'secateur[edge]'."
        raise RunnerError("runtime", message) from None
    return interface


def no_such_device(name: str, available: list[str]) -> RunnerError:
    """Return the error of a device that is not there, with what to do."""
    message = f"OpenVINO has no device {name!r} here. Available: {', '.join(available) or 'none'}."
    if name == "MYRIAD":
        return RunnerError(
            "device",
            f"no Neural Compute Stick was found. {message} Check that it is plugged in (`lsusb` shows 03e7:2485), that"
            " infra/udev/97-secateur-usb.rules is installed and you are in the group plugdev, that libusb-1.0 is there,"
            " and that the profile's interpreter has OpenVINO 2021.4.2, the last with the stick's plugin.",
        )
    return RunnerError("device", f"{message} Name one of them in the profile, or install the driver of yours.")
