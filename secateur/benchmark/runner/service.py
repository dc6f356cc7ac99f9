"""A remote service as a device: the KServe v2 protocol (Open Inference Protocol) over HTTP.

Triton, OpenVINO Model Server, KServe's and Seldon's servers speak it. The model is on the server already; the ONNX file
gives the shapes of its inputs, and is run on this CPU to tell that the service computes the same.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import numpy as np

from secateur.benchmark.runner.device import Device as LocalDevice
from secateur.benchmark.runner.device import Operation
from secateur.benchmark.runner.device import Session as LocalSession
from secateur.benchmark.runner.problem import RunnerError

if TYPE_CHECKING:
    from secateur.benchmark.runner.network import Network

LOCAL = {"kind": "openvino", "device": "CPU", "num_threads": None, "precision": "f32"}
"""Where the ONNX file is read, and run once to compare."""
DTYPES = {
    "BOOL": "?", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2",
    "UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
"""The protocol's types that numpy has; little-endian, as binary tensors are."""
PHASES = ("queue", "compute_input", "compute_infer", "compute_output")
"""What the statistics extension tells of a request, in order."""
MIN_NETWORK_ROUNDS = 5
HEADER_LENGTH = "Inference-Header-Content-Length"


class Connection:
    """One connection to the service, kept open; nothing that goes over it is logged."""

    def __init__(self, profile: dict[str, Any]) -> None:
        self.url: str = profile["url"]
        parts = urlsplit(self.url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._base = parts.path.rstrip("/")
        self._http = kind(parts.hostname or "", parts.port, timeout=profile["request_timeout_s"])
        self._headers = {"Connection": "keep-alive", **_authorization(profile["token_variable"])}

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str | None, bytes]:
        """Send a request; return status, the length of the JSON in front of binary tensors, and the body.

        Raises:
            RunnerError: The service does not answer.
        """
        for is_last_try in (False, True):
            # A server may close an idle connection, which only the next request finds out; a new one never was idle.
            was_open = self._http.sock is not None
            try:
                self._http.request(method, f"{self._base}/{path}", body, {**self._headers, **(headers or {})})
                response = self._http.getresponse()
                return response.status, response.getheader(HEADER_LENGTH), response.read()
            except (OSError, HTTPException) as error:
                self._http.close()
                if is_last_try or not was_open or not isinstance(error, ConnectionError):
                    what = str(error) or type(error).__name__
                    advice = "Check that it runs, its address, and request_timeout_s."
                    raise RunnerError("runtime", f"{self.url} does not answer: {what}. {advice}") from None
        raise AssertionError("the last try returns or raises")

    def ask_json(self, path: str) -> dict[str, Any] | None:
        """Return the JSON object under a path; None where the service has none there.

        Raises:
            RunnerError: The service does not answer, wants other credentials, or says no JSON.
        """
        status, _, body = self.ask("GET", path)
        if status in (401, 403):
            raise RunnerError("device", f"{self.url} refuses the credentials ({status}): set token_variable.")
        if status != 200:
            return None
        return _object(body, f"{self.url}/{path}")


def _authorization(token_variable: str | None) -> dict[str, str]:
    if token_variable is None:
        return {}
    token = os.environ.get(token_variable)
    if not token:
        raise RunnerError("device", f"the environment variable {token_variable!r} (token_variable) is not set.")
    return {"Authorization": f"Bearer {token}"}


def _object(body: bytes, where: str) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise RunnerError("device", f"{where} answers {body[:80]!r}: this is no service of the KServe v2 protocol.")
    return content


class Session:
    """See `device.Session`: one model of the service."""

    def __init__(self, connection: Connection, name: str, tensors: str, local: LocalSession) -> None:
        metadata = connection.ask_json(f"v2/models/{quote(name)}")
        if metadata is None:
            raise RunnerError("input", f"the service at {connection.url} has no model {name!r}.")
        self._connection, self._name, self._is_binary, self._local = connection, name, tensors == "binary", local
        self._input_types: list[dict[str, Any]] = metadata.get("inputs", [])
        self._output_names = [output["name"] for output in metadata.get("outputs", [])]
        self._body, self._header_length = b"", 0
        self._outputs: dict[str, np.ndarray[Any, Any]] = {}

    def copy_in(self, values: list[np.ndarray[Any, Any]]) -> None:
        """Write the request."""
        tensors, payloads = [], []
        for told, value in zip(self._input_types, values):  # noqa: B905 (Python 3.8)
            tensor: dict[str, Any] = {
                "name": told["name"],
                "shape": list(value.shape),
                "datatype": told["datatype"],
            }
            if self._is_binary:
                payloads.append(value.tobytes())
                tensor["parameters"] = {"binary_data_size": len(payloads[-1])}
            else:
                tensor["data"] = value.reshape(-1).tolist()
            tensors.append(tensor)
        asked: dict[str, Any] = {"id": "1", "inputs": tensors}  # KServe's own server fails without one
        if self._is_binary:
            asked["parameters"] = {"binary_data_output": True}
        header = json.dumps(asked).encode()
        self._body, self._header_length = b"".join([header, *payloads]), len(header)

    def infer(self) -> None:
        """Send the request and wait for the answer."""
        headers = {"Content-Type": "application/json"}
        if self._is_binary:
            headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(self._header_length)}
        path = f"v2/models/{quote(self._name)}/infer"
        status, header_length, body = self._connection.ask("POST", path, self._body, headers)
        if status != 200:
            said = body[:200].decode(errors="replace")
            raise RunnerError("runtime", f"the service's model {self._name!r} answered {status}: {said}")
        length = len(body) if header_length is None else int(header_length)
        self._outputs = _tensors(_object(body[:length], self._name), body[length:])

    def copy_out(self, values: list[np.ndarray[Any, Any]]) -> None:
        """Copy the outputs out of the answer."""
        for told, value in zip(self._in_order(), values):  # noqa: B905 (Python 3.8)
            np.copyto(value, told)

    def new_inputs(self, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
        """Draw inputs of the ONNX file's shapes and the service's types."""
        drawn = self._local.new_inputs(rng)
        told = [(t["datatype"], list(t["shape"])) for t in self._input_types]
        shapes = [list(value.shape) for value in drawn]
        if len(told) != len(drawn) or not all(_fits(shape, known) for shape, (_, known) in zip(shapes, told)):  # noqa: B905
            raise RunnerError(
                "input", f"the service's model {self._name!r} takes {[t for _, t in told]}, the ONNX file {shapes}."
            )
        if unknown := [datatype for datatype, _ in told if datatype not in DTYPES]:
            raise RunnerError("input", f"the service's model {self._name!r} takes {unknown[0]}, which numpy has not.")
        return [value.astype(DTYPES[datatype]) for value, (datatype, _) in zip(drawn, told)]  # noqa: B905

    def new_outputs(self) -> list[np.ndarray[Any, Any]]:
        """Make room for the outputs."""
        return [np.empty_like(value) for value in self._in_order()]

    def operations(self) -> list[Operation]:
        """Return nothing: what the service tells of a request, `details` reads."""
        return []

    def fingerprint(self) -> dict[str, Any]:
        """Return what the service does not tell."""
        return dict(UNTOLD)

    def compare(self, rng: np.random.Generator, tolerance: float) -> None:
        """Check that the service computes what the ONNX file does.

        Raises:
            RunnerError: It has other outputs, or they differ by more than `tolerance` times the largest of them.
        """
        inputs = self.new_inputs(rng)
        self.copy_in(inputs)
        self.infer()
        self._local.copy_in(inputs)
        self._local.infer()
        expected = self._local.new_outputs()
        self._local.copy_out(expected)
        got = self.new_outputs()
        self.copy_out(got)
        if [value.shape for value in got] != [value.shape for value in expected]:
            raise RunnerError(
                "input",
                f"the service's model {self._name!r} returns {[v.shape for v in got]}, the ONNX file"
                f" {[v.shape for v in expected]}: it is another network.",
            )
        differences = [
            float(np.abs(a - b).max() / max(float(np.abs(b).max()), np.finfo(np.float32).tiny))
            for a, b in zip(got, expected)  # noqa: B905 (Python 3.8)
        ]
        if not max(differences, default=0.0) <= tolerance:
            raise RunnerError(
                "input",
                f"the service's model {self._name!r} computes something else than the ONNX file: the outputs differ by"
                f" {max(differences):.2g} of the largest, tolerance {tolerance:g} (max_difference).",
            )

    def counters(self) -> dict[str, tuple[int, int]] | None:
        """Return the service's counts and nanoseconds of each phase so far (Triton's extension); None without."""
        told = self._connection.ask_json(f"v2/models/{quote(self._name)}/stats")
        models = (told or {}).get("model_stats") or [{}]
        phases = models[0].get("inference_stats", {})
        if not all(phase in phases for phase in PHASES):
            return None
        return {phase: (int(phases[phase]["count"]), int(phases[phase]["ns"])) for phase in PHASES}

    def ask_nothing(self) -> None:
        """Send as many bytes as an inference takes to an address that infers nothing."""
        self._connection.ask("GET", "v2/health/live", self._body, {"Content-Type": "application/octet-stream"})

    def _in_order(self) -> list[np.ndarray[Any, Any]]:
        names = self._output_names or list(self._outputs)
        return [self._outputs[name] for name in names]


UNTOLD: dict[str, Any] = {"num_threads": None, "precision": "unknown"}
"""The protocol has no words for it."""


class Device:
    """See `device.Device`: a service."""

    has_counters = False
    counts_mean = False

    def __init__(self, profile: dict[str, Any], local: LocalDevice, must_be_there: bool) -> None:
        self.name: str = profile["url"]
        self._profile, self._local = profile, local
        self._connection = Connection(profile)
        try:
            self._server = self._connection.ask_json("v2") if must_be_there else {}
        except RunnerError as error:
            raise RunnerError("device", str(error)) from None
        if self._server is None:
            raise RunnerError("device", f"{self.name} has no v2: this is no service of the KServe v2 protocol.")

    def read(self, path: str) -> Any:
        """Read an ONNX file here."""
        return self._local.read(path)

    def unsupported(self, model: Any) -> list[str]:  # noqa: ARG002
        """Return nothing: a service has the models that it has."""
        return []

    def compile(self, model: Any, path: str, *, is_counting: bool = False) -> Session:  # noqa: ARG002
        """Find the model on the service, and compare it with the ONNX file."""
        name = self._profile["model"].replace("{stem}", Path(path).stem)
        session = Session(self._connection, name, self._profile["tensors"], self._local.compile(model, path))
        try:
            session.compare(np.random.default_rng(0), self._profile["max_difference"])
        except RunnerError as error:
            raise RunnerError(error.kind, f"{path}: {error}") from None
        return session

    def details(self, network: Network, seconds: float) -> dict[str, Any]:
        """Tell what of the total latency is the network between here and the service.

        Where the service keeps statistics, it is the rest of each request beside the service's own time; else it is
        the time of a request of the same size that infers nothing (the shorter answer, and a server that answers
        before it has read everything, make that a lower bound).
        """
        session: Session = network.session  # type: ignore[assignment]
        before = session.counters()
        rounds: list[tuple[float, list[float]]] = []
        start = time.perf_counter()
        while len(rounds) < MIN_NETWORK_ROUNDS or time.perf_counter() - start < seconds:
            if before is None:
                asked = time.perf_counter()
                session.ask_nothing()
                rounds.append(((time.perf_counter() - asked) * 1e3, []))
            else:
                total_ms = network.infer() * 1e3
                after = session.counters() or before
                phases_ms = [_mean_ms(before[phase], after[phase]) for phase in PHASES]
                rounds.append((total_ms - sum(phases_ms), phases_ms))
                before = after
        found: dict[str, Any] = {
            "network": {
                "latency_ms": statistics.median(network_ms for network_ms, _ in rounds),
                "source": "empty request" if before is None else "statistics",
            }
        }
        if before is not None:
            means_ms = np.mean([phases_ms for _, phases_ms in rounds], axis=0).tolist()
            found["latency_ms"] = statistics.median(sum(phases_ms) for _, phases_ms in rounds)
            found["layers"] = [
                Operation(name=phase, type="phase of a request", kernel="service", ms=ms)
                for phase, ms in zip(PHASES, means_ms)  # noqa: B905 (Python 3.8)
            ]
        return found

    def fingerprint(self) -> dict[str, Any]:
        """Return what the service does not tell."""
        return dict(UNTOLD)

    def describe(self) -> dict[str, Any]:
        """Return the service's address, its own name, and its version."""
        told = {field: str((self._server or {}).get(field, "unknown")) for field in ("name", "version")}
        return {"device": self.name, "full_name": told["name"], "runtime": told["version"]}


def _tensors(answer: dict[str, Any], binary: bytes) -> dict[str, np.ndarray[Any, Any]]:
    found, offset = {}, 0
    for tensor in answer.get("outputs", []):
        dtype, size = DTYPES.get(tensor["datatype"]), (tensor.get("parameters") or {}).get("binary_data_size")
        if dtype is None:
            raise RunnerError(
                "input", f"output {tensor['name']!r} is of type {tensor['datatype']}, which numpy has not."
            )
        if size is None:
            values = np.asarray(tensor["data"], dtype=dtype)
        else:
            values = np.frombuffer(binary[offset : offset + size], dtype=dtype)
            offset += size
        found[tensor["name"]] = values.reshape(tensor["shape"])
    return found


def _fits(shape: list[int], told: list[int]) -> bool:
    pairs = zip(shape, told)  # noqa: B905 (Python 3.8)
    return len(shape) == len(told) and all(known in (-1, size) for size, known in pairs)


def _mean_ms(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Return the time of a request, from sums before and after; others may have asked, too."""
    count = after[0] - before[0]
    return (after[1] - before[1]) / count / 1e6 if count > 0 else 0.0
