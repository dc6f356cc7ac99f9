"""A small service of the KServe v2 protocol on loopback, over OpenVINO; it can be told to misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import openvino


class V2Server(ThreadingHTTPServer):
    """Serves ONNX files under their names.

    Attributes:
        token: A bearer token that it wants.
        keeps_statistics: It has Triton's statistics extension.
        delay_s: Before it answers an inference, outside of what its statistics tell.
        closes: It closes the connection after each answer without saying so.
        fails_after: Inferences after which it answers 500.
        scale: Of all outputs: another network's than the file's, unless it is 1.
    """

    daemon_threads = True

    def __init__(self, *models: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        core = openvino.Core()
        hint = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        self.models = {path.stem: core.compile_model(core.read_model(path), "CPU", hint) for path in models}
        self.token: str | None = None
        self.keeps_statistics = False
        self.delay_s = 0.0
        self.closes = False
        self.fails_after: int | None = None
        self.scale = 1.0
        self.num_inferences, self.infer_ns = 0, 0
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def running(self) -> Iterator[V2Server]:
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: V2Server

    def log_message(self, *args: object) -> None:
        pass

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.paths.append(self.path)
        if self.server.token is not None and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self.answer({"error": "unauthorized"}, status=401)
            return
        match self.path.strip("/").split("/"):
            case ["v2"]:
                self.answer({"name": "v2-for-tests", "version": "1", "extensions": ["binary_tensor_data"]})
            case ["v2", "health", "live"]:
                self.answer({"live": True})
            case ["v2", "models", name] if name in self.server.models:
                self.answer(metadata(name, self.server.models[name]))
            case ["v2", "models", name, "stats"] if name in self.server.models and self.server.keeps_statistics:
                self.answer(self.statistics())
            case ["v2", "models", name, "infer"] if name in self.server.models:
                self.infer(self.server.models[name], body)
            case _:
                self.answer({"error": f"there is no {self.path}"}, status=404)

    do_GET = do_POST = handle_request

    def infer(self, model: Any, body: bytes) -> None:
        server = self.server
        server.num_inferences += 1
        if server.fails_after is not None and server.num_inferences > server.fails_after:
            self.answer({"error": "out of memory"}, status=500)
            return
        length = self.headers.get("Inference-Header-Content-Length")
        header = json.loads(body[: int(length)] if length else body)
        (told,) = header["inputs"]
        data = np.frombuffer(body[int(length) :], "<f4") if length else np.asarray(told["data"], np.float32)
        started = time.perf_counter_ns()
        logits = model(data.reshape(told["shape"]))[0] * np.float32(server.scale)
        server.infer_ns += time.perf_counter_ns() - started
        time.sleep(server.delay_s)
        output = {"name": "output", "datatype": "FP32", "shape": list(logits.shape)}
        if header.get("parameters", {}).get("binary_data_output"):
            output["parameters"] = {"binary_data_size": logits.nbytes}
            self.answer({"outputs": [output]}, binary=logits.tobytes())
        else:
            self.answer({"outputs": [{**output, "data": logits.reshape(-1).tolist()}]})

    def statistics(self) -> dict[str, Any]:
        told = {"count": self.server.num_inferences, "ns": self.server.infer_ns}
        none = {"count": self.server.num_inferences, "ns": 0}
        phases = {"queue": none, "compute_input": none, "compute_infer": told, "compute_output": none}
        return {"model_stats": [{"inference_stats": {"success": told, **phases}}]}

    def answer(self, content: dict[str, Any], *, status: int = 200, binary: bytes | None = None) -> None:
        header = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(header) + len(binary or b"")))
        if binary is not None:
            self.send_header("Inference-Header-Content-Length", str(len(header)))
        self.end_headers()
        self.wfile.write(header + (binary or b""))
        self.close_connection = self.server.closes


def metadata(name: str, model: Any) -> dict[str, Any]:
    (told,), (output,) = model.inputs, model.outputs
    return {
        "name": name,
        "platform": "openvino",
        "inputs": [{"name": told.any_name, "datatype": "FP32", "shape": [-1, *list(told.shape)[1:]]}],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": list(output.shape)}],
    }
