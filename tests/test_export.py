from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from secateur.errors import ExportError
from secateur.export import TOLERANCE, architecture_signature, check_parity, export_onnx, input_shape, parity
from tests.flows.tiny import SIZE, TinyNetwork


@pytest.fixture
def model() -> TinyNetwork:
    torch.manual_seed(0)
    return TinyNetwork(3)


def test_the_file_computes_what_the_network_does(model: TinyNetwork) -> None:
    content = export_onnx(model, SIZE)
    onnx.checker.check_model(onnx.load_model_from_string(content))
    image_NCHW = torch.randn(1, 3, SIZE, SIZE)
    (logits_NK,) = ReferenceEvaluator(onnx.load_model_from_string(content)).run(None, {"input": image_NCHW.numpy()})
    assert np.abs(logits_NK - model.eval()(image_NCHW).detach().numpy()).max() < 1e-5


def test_what_is_stored_is_compared_on_real_images(model: TinyNetwork) -> None:
    content = export_onnx(model.eval(), SIZE)
    images_NCHW = torch.randn(4, 3, SIZE, SIZE)
    assert parity(model, content, images_NCHW) < TOLERANCE
    with torch.no_grad():
        model.fc.bias.copy_(model.fc.bias + 1)
    assert parity(model, content, images_NCHW) > 0.1
    with torch.no_grad():
        model.fc.bias[0] = float("nan")
    assert parity(model, content, images_NCHW) == float("inf")


def test_the_input_shape(model: TinyNetwork) -> None:
    assert input_shape(export_onnx(model, SIZE)) == (1, 3, SIZE, SIZE)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_networks_mode_is_kept(model: TinyNetwork, is_training: bool) -> None:
    export_onnx(model.train(is_training), SIZE)
    assert model.training is is_training


def test_equal_networks_are_equal_bytes_that_name_no_folder(model: TinyNetwork) -> None:
    content = export_onnx(model, SIZE)
    assert content == export_onnx(copy.deepcopy(model), SIZE)
    assert str(Path.cwd()).encode() not in content


def test_the_signature_is_of_the_shapes_not_of_the_weights(model: TinyNetwork) -> None:
    signature = architecture_signature(export_onnx(model, SIZE))
    torch.manual_seed(1)
    assert architecture_signature(export_onnx(TinyNetwork(3), SIZE)) == signature
    assert architecture_signature(export_onnx(TinyNetwork(4), SIZE)) != signature
    assert architecture_signature(export_onnx(model, 2 * SIZE)) != signature
    model.conv1.padding, model.conv1.dilation = (2, 2), (2, 2)  # equal shapes everywhere
    assert architecture_signature(export_onnx(model, SIZE)) != signature


class Drifting(nn.Module):
    """Answers otherwise at every call: what was exported is soon no longer true."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * SIZE * SIZE, 2)
        self.num_calls = 0

    def forward(self, images_NCHW: Tensor) -> Tensor:
        self.num_calls += 1
        logits_NK: Tensor = self.linear(images_NCHW.flatten(1)) + self.num_calls
        return logits_NK


class Unexportable(Drifting):
    def forward(self, images_NCHW: Tensor) -> Tensor:
        return torch.linalg.eigvals(images_NCHW[0, 0]).abs()


def test_a_network_that_changes_in_export_is_refused() -> None:
    with pytest.raises(ExportError, match=r"Output changed in export: max \|torch - onnx\| = .*, tolerance .*\."):
        export_onnx(Drifting(), SIZE)


def test_a_network_that_cannot_be_exported_is_refused() -> None:
    with pytest.raises(ExportError, match=r"The network cannot be exported to ONNX: .*linalg_eigvals"):
        export_onnx(Unexportable(), SIZE)


@pytest.mark.parametrize(
    ("got", "is_equal"),
    [
        ([[1.0, 100.0]], True),
        ([[1.009, 100.0]], True),
        ([[1.011, 100.0]], False),
        ([[float("nan"), 100.0]], False),
        ([[1.0, float("inf")]], False),
        ([[1.0], [100.0]], False),
    ],
)
def test_outputs_may_differ_by_a_ten_thousandth_of_the_largest(got: list[list[float]], is_equal: bool) -> None:
    expected_NK, got_NK = np.array([[1.0, 100.0]], np.float32), np.array(got, np.float32)
    if is_equal:
        check_parity(expected_NK, got_NK)
    else:
        with pytest.raises(ExportError, match=r"tolerance 0\.01"):
            check_parity(expected_NK, got_NK)


def test_a_pooling_with_a_ceiling_that_says_nothing_is_exported() -> None:
    """As GoogLeNet has it: ONNX's reference evaluator would get its size wrong."""
    model = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), nn.Conv2d(3, 2, 1), nn.Flatten())
    pooling = onnx.load_model_from_string(export_onnx(model, 8)).graph.node[0]
    assert pooling.op_type == "MaxPool"
    assert [attribute.i for attribute in pooling.attribute if attribute.name == "ceil_mode"] in ([], [0])
