"""OpenVINO's present interface, from 2023.2 on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino

from secateur.benchmark.runner.device import Operation, no_such_device
from secateur.benchmark.runner.problem import RunnerError, reason

if TYPE_CHECKING:
    from secateur.benchmark.runner.network import Network

_THREADS, _PRECISION = "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT"


class Session:
    """See `device.Session`."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()

    def copy_in(self, values: list[np.ndarray[Any, Any]]) -> None:
        for index, value in enumerate(values):
            np.copyto(self._request.get_input_tensor(index).data, value)

    def infer(self) -> None:
        self._request.infer(share_outputs=True)

    def copy_out(self, values: list[np.ndarray[Any, Any]]) -> None:
        for index, value in enumerate(values):
            np.copyto(value, self._request.get_output_tensor(index).data)

    def new_inputs(self, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
        return _draw([self._request.get_input_tensor(i).data for i in range(len(self._compiled.inputs))], rng)

    def new_outputs(self) -> list[np.ndarray[Any, Any]]:
        return [np.empty_like(self._request.get_output_tensor(i).data) for i in range(len(self._compiled.outputs))]

    def operations(self) -> list[Operation]:
        return [
            {"name": o.node_name, "type": o.node_type, "kernel": o.exec_type, "ms": o.real_time.total_seconds() * 1e3}
            for o in self._request.profiling_info
            if str(o.status) == "Status.EXECUTED"
        ]

    def fingerprint(self) -> dict[str, Any]:
        known = set(self._compiled.get_property("SUPPORTED_PROPERTIES"))
        precision = self._compiled.get_property(_PRECISION).get_type_name() if _PRECISION in known else "unknown"
        threads = int(self._compiled.get_property(_THREADS)) if _THREADS in known else None
        return {"num_threads": threads, "precision": precision}


class Device:
    """See `device.Device`."""

    def __init__(self, profile: dict[str, Any], must_be_there: bool) -> None:
        self._core = openvino.Core()
        self._profile = profile
        self.name = profile["device"]
        available = list(self._core.available_devices)
        if must_be_there and not any(name == self.name or name.startswith(f"{self.name}.") for name in available):
            raise no_such_device(self.name, available)
        try:
            supported = set(self._core.get_property(self.name, "SUPPORTED_PROPERTIES"))
        except RuntimeError:  # this OpenVINO has no plugin of that name
            raise no_such_device(self.name, available) from None
        self.has_counters = "PERF_COUNT" in supported
        self.counts_mean = self.name == "CPU"  # up to 2026.4
        self._streams = {"NUM_STREAMS": "1"} if "NUM_STREAMS" in supported else {}
        self._config = {}
        for field, key in (("num_threads", _THREADS), ("precision", _PRECISION)):
            if profile[field] is not None:
                if key not in supported:
                    message = f"device {self.name!r} has no setting for {field!r}: remove it from the profile."
                    raise RunnerError("device", message)
                self._config[key] = str(profile[field])

    def read(self, path: str) -> Any:
        try:
            model = self._core.read_model(path)
        except RuntimeError as exc:
            raise RunnerError("input", f"{path}: OpenVINO cannot read this model: {reason(exc)}") from None
        for parameter in model.inputs:
            shape = parameter.partial_shape
            if shape.rank.is_static and len(shape) > 0 and shape[0].is_dynamic:
                shape[0] = 1
                model.reshape({parameter: shape})
            if shape.is_dynamic:
                problem = f"input {parameter.any_name!r} has the open shape {shape}: export it with fixed sizes."
                raise RunnerError("input", f"{path}: {problem}")
        return model

    def unsupported(self, model: Any) -> list[str]:
        known = self._core.query_model(model, self.name)
        return [
            f"{o.get_type_name()} {o.get_friendly_name()!r}"
            for o in model.get_ordered_ops()
            if o.get_friendly_name() not in known
        ]

    def compile(self, model: Any, path: str, *, is_counting: bool = False) -> Session:
        hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", **self._streams}
        return Session(self._compile(model, path, {**hints, "PERF_COUNT": True} if is_counting else hints))

    def details(self, network: Network, seconds: float) -> dict[str, Any]:
        compiled = self._compile(network.model, str(network.path), {"PERFORMANCE_HINT": "THROUGHPUT"})
        queue = openvino.AsyncInferQueue(compiled)  # as many requests as the device calls optimal
        for _ in range(2 * len(queue)):
            queue.start_async()
        queue.wait_all()
        num_inferences, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            queue.start_async()
            num_inferences += 1
        queue.wait_all()
        duration_s = time.perf_counter() - start
        return {"throughput_fps": num_inferences / duration_s, "num_requests": len(queue)}

    def fingerprint(self) -> dict[str, Any]:
        opset = openvino.opset8
        parameter = opset.parameter([1, 1], np.float32)
        smallest = openvino.Model([opset.relu(parameter)], [parameter], "probe")
        return self.compile(smallest, "probe").fingerprint()

    def describe(self) -> dict[str, Any]:
        full_name = str(self._core.get_property(self.name, "FULL_DEVICE_NAME")).strip()
        return {"device": self.name, "full_name": full_name, "runtime": openvino.get_version()}

    def _compile(self, model: Any, path: str, hints: dict[str, Any]) -> Any:
        try:
            return self._core.compile_model(model, self.name, {**self._config, **hints})
        except RuntimeError as exc:
            message = f"{path}: device {self.name!r} cannot run this model: {reason(exc)}"
            raise RunnerError("runtime", message) from None


def open_device(profile: dict[str, Any], must_be_there: bool) -> Device:
    """See `device.open_device`."""
    return Device(profile, must_be_there)


def list_devices() -> list[dict[str, str]]:
    """See `device.list_devices`."""
    core = openvino.Core()
    full_names = {name: core.get_property(name, "FULL_DEVICE_NAME") for name in core.available_devices}
    return [{"name": name, "full_name": str(full).strip()} for name, full in full_names.items()]


def save_ir(source: str, target: str) -> None:
    """See `device.save_ir`."""
    try:
        model = openvino.Core().read_model(source)
    except RuntimeError as exc:
        raise RunnerError("input", f"{source}: OpenVINO cannot read this model: {reason(exc)}") from None
    openvino.save_model(model, target, compress_to_fp16=False)


def _draw(buffers: list[Any], rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    return [rng.random(buffer.shape).astype(buffer.dtype) for buffer in buffers]
