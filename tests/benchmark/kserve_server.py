"""KServe's own server, over OpenVINO, on loopback: `python kserve_server.py PORT MODEL.onnx...` in its environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import openvino
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server
from kserve.protocol.rest.server import RESTServer


class LoopbackServer(RESTServer):
    """KServe's, which would listen to the whole world."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.config.host = "127.0.0.1"


class OnnxModel(Model):
    def __init__(self, path: Path) -> None:
        super().__init__(path.stem)
        core = openvino.Core()
        self.compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self.ready = True

    def get_input_types(self) -> list[dict[str, Any]]:
        return [{"name": t.any_name, "datatype": "FP32", "shape": list(t.shape)} for t in self.compiled.inputs]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [{"name": t.any_name, "datatype": "FP32", "shape": list(t.shape)} for t in self.compiled.outputs]

    def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:
        found = self.compiled([value.as_numpy() for value in payload.inputs])
        outputs = []
        for told in self.compiled.outputs:
            output = InferOutput(told.any_name, list(told.shape), "FP32")
            output.set_data_from_numpy(found[told])
            outputs.append(output)
        is_binary = payload.use_binary_outputs
        return InferResponse(payload.id, self.name, infer_outputs=outputs, use_binary_outputs=is_binary)


if __name__ == "__main__":
    model_server.RESTServer = LoopbackServer
    models = [OnnxModel(Path(path)) for path in sys.argv[2:]]
    ModelServer(http_port=int(sys.argv[1]), enable_grpc=False).start(models)
