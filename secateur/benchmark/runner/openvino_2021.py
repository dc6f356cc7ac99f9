"""OpenVINO 2021.4's interface, the Inference Engine: the last with a plugin for the Neural Compute Stick (MYRIAD)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import ngraph
import numpy as np
from openvino.inference_engine import IECore, get_version

from secateur.benchmark.runner.device import Operation, no_such_device
from secateur.benchmark.runner.problem import RunnerError, reason

if TYPE_CHECKING:
    from secateur.benchmark.runner.network import Network

_ENFORCE_BF16 = {"f32": "NO", "bf16": "YES"}
_OWN_PRECISION = {"MYRIAD": "f16", "GPU": "f16"}
"""Of devices that have only one for the networks we export."""


class Session:
    """See `device.Session`."""

    def __init__(self, executable: Any, device: str) -> None:
        self._executable = executable
        self._device = device
        self._request = executable.requests[0]

    def copy_in(self, values: list[np.ndarray[Any, Any]]) -> None:
        for blob, value in zip(self._request.input_blobs.values(), values):  # noqa: B905 (Python 3.8)
            np.copyto(blob.buffer, value)

    def infer(self) -> None:
        self._request.infer()

    def copy_out(self, values: list[np.ndarray[Any, Any]]) -> None:
        for blob, value in zip(self._request.output_blobs.values(), values):  # noqa: B905 (Python 3.8)
            np.copyto(value, blob.buffer)

    def new_inputs(self, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
        buffers = [blob.buffer for blob in self._request.input_blobs.values()]
        return [rng.random(buffer.shape).astype(buffer.dtype) for buffer in buffers]

    def new_outputs(self) -> list[np.ndarray[Any, Any]]:
        return [np.empty_like(blob.buffer) for blob in self._request.output_blobs.values()]

    def operations(self) -> list[Operation]:
        return [
            {"name": name, "type": o["layer_type"], "kernel": o["exec_type"], "ms": o["real_time"] / 1e3}
            for name, o in self._request.get_perf_counts().items()
            if o["status"] == "EXECUTED"
        ]

    def fingerprint(self) -> dict[str, Any]:
        if self._device != "CPU":
            return {"num_threads": None, "precision": _OWN_PRECISION.get(self._device, "unknown")}
        threads = int(self._executable.get_config("CPU_THREADS_NUM"))  # 0: the runtime chose, and does not say
        is_bf16 = self._executable.get_config("ENFORCE_BF16") == "YES"
        return {"num_threads": threads or None, "precision": "bf16" if is_bf16 else "f32"}


class Device:
    """See `device.Device`."""

    counts_mean: bool

    def __init__(self, profile: dict[str, Any], must_be_there: bool) -> None:
        self._core = IECore()
        self.name = profile["device"]
        available = list(self._core.available_devices)
        if must_be_there and not any(name == self.name or name.startswith(f"{self.name}.") for name in available):
            raise no_such_device(self.name, available)
        is_cpu = self.name == "CPU"
        self.has_counters = True
        self.counts_mean = is_cpu
        precisions = _ENFORCE_BF16 if is_cpu else {_OWN_PRECISION.get(self.name): None}
        for field, is_known in (
            ("num_threads", profile["num_threads"] is None or is_cpu),
            ("precision", profile["precision"] is None or profile["precision"] in precisions),
        ):
            if not is_known:
                message = (
                    f"device {self.name!r} has no setting {field}: {profile[field]!r}: remove it from the profile."
                )
                raise RunnerError("device", message)
        self._config = {}
        if is_cpu and profile["num_threads"] is not None:
            # Bound threads would leave the core that the process is pinned to.
            self._config = {"CPU_THREADS_NUM": str(profile["num_threads"]), "CPU_BIND_THREAD": "NO"}
        if is_cpu and profile["precision"] is not None:
            self._config["ENFORCE_BF16"] = _ENFORCE_BF16[profile["precision"]]

    def read(self, path: str) -> Any:
        try:
            network = self._core.read_network(path)
            parameters = ngraph.function_from_cnn(network).get_parameters()
        except RuntimeError as exc:
            raise RunnerError("input", f"{path}: OpenVINO cannot read this model: {reason(exc)}") from None
        if not network.input_info or not network.outputs:
            raise RunnerError("input", f"{path}: OpenVINO cannot read this model: it has no inputs or no outputs.")
        for parameter in parameters:
            name, shape = parameter.get_friendly_name(), parameter.get_partial_shape()
            sizes = str(shape).strip("{}[]").split(",")
            if sizes[0] == "?":
                sizes[0] = "1"
                if "?" not in sizes:
                    network.reshape({name: [int(size) for size in sizes]})
            if "?" in sizes:
                problem = f"input {name!r} has the open shape [{','.join(sizes)}]: export it with fixed sizes."
                raise RunnerError("input", f"{path}: {problem}")
        return network

    def unsupported(self, model: Any) -> list[str]:
        try:
            known = self._core.query_network(model, self.name)
        except RuntimeError as exc:  # the plugin cannot be loaded
            needs = " The stick's plugin needs libusb-1.0." if self.name == "MYRIAD" else ""
            raise RunnerError("runtime", f"device {self.name!r} cannot be asked: {reason(exc)}.{needs}") from None
        operations = ngraph.function_from_cnn(model).get_ordered_ops()
        return [
            f"{o.get_type_name()} {o.get_friendly_name()!r}" for o in operations if o.get_friendly_name() not in known
        ]

    def compile(self, model: Any, path: str, *, is_counting: bool = False) -> Session:
        return Session(self._load(model, path, {"PERF_COUNT": "YES"} if is_counting else {}, num_requests=1), self.name)

    def details(self, network: Network, seconds: float) -> dict[str, Any]:
        streams = {"CPU_THROUGHPUT_STREAMS": "CPU_THROUGHPUT_AUTO"} if self.name == "CPU" else {}
        executable = self._load(
            network.model, str(network.path), streams, num_requests=0
        )  # as many as the device calls optimal
        requests = executable.requests
        for request in requests:
            request.infer()
            request.async_infer()
        num_inferences, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            request = requests[num_inferences % len(requests)]
            request.wait()
            request.async_infer()
            num_inferences += 1
        duration_s = time.perf_counter() - start
        for request in requests:
            request.wait()
        return {"throughput_fps": num_inferences / duration_s, "num_requests": len(requests)}

    def fingerprint(self) -> dict[str, Any]:
        parameter = ngraph.parameter([1, 1], np.float32)
        function = ngraph.Function([ngraph.relu(parameter)], [parameter], "probe")
        return self.compile(ngraph.function_to_cnn(function), "probe").fingerprint()

    def describe(self) -> dict[str, Any]:
        full_name = str(self._core.get_metric(self.name, "FULL_DEVICE_NAME")).strip()
        return {"device": self.name, "full_name": full_name, "runtime": get_version()}

    def _load(self, model: Any, path: str, more: dict[str, str], *, num_requests: int) -> Any:
        try:
            return self._core.load_network(model, self.name, config={**self._config, **more}, num_requests=num_requests)
        except RuntimeError as exc:
            message = f"{path}: device {self.name!r} cannot run this model: {reason(exc)}"
            raise RunnerError("runtime", message) from None


def open_device(profile: dict[str, Any], must_be_there: bool) -> Device:
    """See `device.open_device`."""
    return Device(profile, must_be_there)


def list_devices() -> list[dict[str, str]]:
    """See `device.list_devices`."""
    core = IECore()
    names = core.available_devices
    return [{"name": name, "full_name": str(core.get_metric(name, "FULL_DEVICE_NAME")).strip()} for name in names]


def save_ir(source: str, target: str) -> None:
    """See `device.save_ir`."""
    try:
        IECore().read_network(source).serialize(target)
    except RuntimeError as exc:
        raise RunnerError("input", f"{source}: OpenVINO cannot read this model: {reason(exc)}") from None
