"""Small convolutional networks as ONNX files, made without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def conv_net(
    path: Path,
    *,
    width: int = 16,
    depth: int = 3,
    size: int = 24,
    batch: int | str = 1,
    height: int | str | None = None,
    scale: float = 1.0,
    activation: str = "Relu",
) -> Path:
    """Write `depth` 3x3 convolutions of `width` filters each, and return the path.

    `batch` and `height` may be a string: an open dimension. `scale` multiplies the weights;
    `activation` is an ONNX operator of one input.
    """
    rng = np.random.default_rng(0)
    nodes, weights, tensor, in_channels = [], [], "input", 3
    for index in range(depth):
        weight_OIHW = rng.standard_normal((width, in_channels, 3, 3)) * (scale / np.sqrt(in_channels * 9))
        weights.append(numpy_helper.from_array(weight_OIHW.astype(np.float32), f"w{index}"))
        nodes.append(helper.make_node("Conv", [tensor, f"w{index}"], [f"c{index}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node(activation, [f"c{index}"], [f"r{index}"]))
        tensor, in_channels = f"r{index}", width
    nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["output"]))
    shape = [batch, 3, size if height is None else height, size]
    graph = helper.make_graph(
        nodes,
        "conv_net",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, width, 1, 1])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
