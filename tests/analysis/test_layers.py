"""Tables of layers: the same network as a module, as tensors and as ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from secateur.analysis.layers import LayerFacts, layers_of_module, layers_of_state, total
from secateur.analysis.onnx_layers import layers_of_onnx
from secateur.errors import InputError
from secateur.export import export_onnx
from secateur.models import create_model
from secateur.thinning import count_macs, count_params

EXAMPLE_NCHW = torch.zeros(1, 3, 32, 32)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    model = create_model("resnet20_cifar", 10).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.uniform_()  # equal biases would be shared in ONNX
        model.get_parameter("layer2.0.downsample.0.weight")[:8] = 0
    return model


def test_a_module(model: nn.Module) -> None:
    layers = {layer.name: layer for layer in layers_of_module(model, EXAMPLE_NCHW)}
    totals = total(layers.values())
    assert totals.num_params == count_params(model)
    assert totals.macs == count_macs(model, EXAMPLE_NCHW)
    assert layers["conv1"].macs == 32 * 32 * 16 * 3 * 9
    assert layers["bn1"].num_params == 32
    assert layers["layer2.0.downsample.0"].sparsity == 0.25
    assert layers["fc"].type == "Linear"


def test_a_state_dict_has_the_same_layers(model: nn.Module) -> None:
    of_module = layers_of_module(model, EXAMPLE_NCHW)
    of_state = layers_of_state(model.state_dict())
    assert [(a.name, a.num_params, a.csr_bytes) for a in of_state] == [
        (b.name, b.num_params, b.csr_bytes) for b in of_module
    ]
    assert total(of_state).macs is None


def test_an_onnx_file_has_pytorchs_names_and_figures(model: nn.Module) -> None:
    of_onnx = {layer.name: layer for layer in layers_of_onnx(export_onnx(model, 32), "model.onnx")}
    of_module = {a.name: a for a in layers_of_module(model, EXAMPLE_NCHW) if a.weight.ndim > 1}
    assert of_onnx.keys() == of_module.keys()
    for name, layer in of_onnx.items():
        same = of_module[name]
        assert (layer.weight.shape, layer.macs, layer.sparsity) == (same.weight.shape, same.macs, same.sparsity)


@pytest.mark.parametrize(
    ("weight", "dense_bytes", "csr_bytes"),
    [
        (np.array([[0, 1, 0], [2, 0, 3]], np.float32), 24, 3 * 8 + 3 * 4),
        (np.zeros((2, 3, 1, 1), np.float16), 12, 3 * 4),
        (np.ones((2, 1, 1, 2), np.int8), 4, 4 * 5 + 3 * 4),
        (np.ones(7, np.float32), 28, None),
    ],
    ids=["half zero", "all zero", "int8", "a vector"],
)
def test_bytes(weight: np.ndarray, dense_bytes: int, csr_bytes: int | None) -> None:
    layer = LayerFacts(name="x", type="", weight=weight, num_params=weight.size, macs=None)
    assert (layer.dense_bytes, layer.csr_bytes) == (dense_bytes, csr_bytes)


def test_no_onnx_file() -> None:
    with pytest.raises(InputError, match=r"model\.onnx: this is no ONNX file"):
        layers_of_onnx(b"\xff\xff\xff", "model.onnx")
