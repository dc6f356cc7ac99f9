"""The layers of an ONNX file."""

from __future__ import annotations

import math

import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper, shape_inference

from secateur.analysis.layers import LayerFacts
from secateur.errors import InputError

_OPERATIONS = {"Conv", "Gemm", "MatMul"}


def layers_of_onnx(content: bytes, source: str) -> tuple[LayerFacts, ...]:
    """Describe the convolutions and matrix products with constant weights, in the file's order.

    Args:
        content: The file; its inputs should have fixed sizes, otherwise multiply-accumulates are not known.
        source: Its name, for messages.

    Raises:
        InputError: It is no ONNX file, or its shapes contradict one another.
    """
    try:
        model = onnx.load_model_from_string(content)
        graph = shape_inference.infer_shapes(model).graph
    except (DecodeError, shape_inference.InferenceError) as exc:
        raise InputError(f"{source}: this is no ONNX file: {exc}.") from exc
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.output)}
    layers = []
    for node in graph.node:
        if node.op_type in _OPERATIONS and node.input[1] in constants:
            weight = numpy_helper.to_array(constants[node.input[1]])
            transposed = next((attribute.i for attribute in node.attribute if attribute.name == "transB"), 0)
            if node.op_type != "Conv" and not transposed:
                weight = weight.T  # num_filters first, as everywhere
            output = shapes.get(node.output[0])
            macs = None if output is None else math.prod(output[1:]) // len(weight) * weight.size
            name = node.name or node.output[0]
            layers.append(
                LayerFacts(
                    name=_module_name(name),
                    type=node.op_type,
                    weight=weight,
                    num_params=weight.size + len(weight) * len(node.input[2:]),
                    macs=macs,
                )
            )
    return tuple(layers)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    """Return a tensor's shape; None if a size beyond the batch is open."""
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return tuple(dims) if dims and all(dims[1:]) else None


def _module_name(node: str) -> str:
    """Return PyTorch's name of what its exporter calls ``/layer1/layer1.0/conv1/Conv``: ``layer1.0.conv1``."""
    parts = [part for part in node.split("/") if part]
    path: list[str] = []
    for part in parts[:-1] if len(parts) > 1 else parts:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path)
