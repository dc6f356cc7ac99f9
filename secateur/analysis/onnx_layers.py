"""The layers of an ONNX file."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

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
    graph = _graph(content, source)
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


@dataclass(frozen=True, kw_only=True)
class LayerWork:
    """What a layer reads, computes and writes for one image."""

    name: str
    """Of the module."""
    names_on_device: tuple[str, ...]
    """Under which OpenVINO may list it."""
    shape: tuple[int, ...]
    """Of its weight, filters first."""
    num_groups: int
    num_inputs: int
    """Numbers read, besides weights; what a residual sum adds to its output included, as runtimes do that in one go."""
    num_outputs: int

    @property
    def num_weights(self) -> int:
        """Numbers in its weight."""
        return math.prod(self.shape)

    @property
    def product(self) -> tuple[int, int, int]:
        """The matrix product that it is (by im2col): filters, weights of each, positions."""
        return self.shape[0], self.num_weights // self.shape[0], self.num_outputs // self.shape[0]

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return math.prod(self.product)


def work_of_onnx(content: bytes, source: str) -> tuple[LayerWork, ...]:
    """Say what the convolutions and matrix products with constant weights move and compute, in the file's order.

    Args:
        content: The file; all sizes in it are fixed.
        source: Its name, for messages.

    Raises:
        InputError: It is no ONNX file, or its shapes contradict one another, or are open.
    """
    graph = _graph(content, source)
    facts = iter(layers_of_onnx(content, source))
    constants = {tensor.name for tensor in graph.initializer}
    sizes = {
        value.name: math.prod(shape[1:])
        for value in (*graph.input, *graph.value_info, *graph.output)
        if (shape := _shape(value)) is not None
    }
    makers: dict[str, int] = {}
    work: list[LayerWork] = []
    for node in graph.node:
        if node.op_type in _OPERATIONS and node.input[1] in constants:
            layer = next(facts)
            if not {node.input[0], node.output[0]} <= sizes.keys():
                raise InputError(f"{source}: the sizes of {layer.name!r} are open: export it with fixed sizes.")
            makers[node.output[0]] = len(work)
            work.append(
                LayerWork(
                    name=layer.name,
                    # A convolution's bias becomes an operation of its own; the last operation is called as its output.
                    names_on_device=(node.name, f"{node.name}/WithoutBiases", node.output[0]),
                    shape=layer.weight.shape,
                    num_groups=next((a.i for a in node.attribute if a.name == "group"), 1),
                    num_inputs=sizes[node.input[0]],
                    num_outputs=sizes[node.output[0]],
                )
            )
        elif node.op_type == "Add" and constants.isdisjoint(node.input) and not makers.keys().isdisjoint(node.input):
            place = max(makers[name] for name in node.input if name in makers)
            work[place] = replace(work[place], num_inputs=work[place].num_inputs + work[place].num_outputs)
    return tuple(work)


def _graph(content: bytes, source: str) -> onnx.GraphProto:
    try:
        return shape_inference.infer_shapes(onnx.load_model_from_string(content)).graph
    except (DecodeError, shape_inference.InferenceError) as exc:
        raise InputError(f"{source}: this is no ONNX file: {exc}.") from exc


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
