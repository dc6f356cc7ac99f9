from __future__ import annotations

import json
import struct

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secateur.errors import ModelError
from secateur.pruning import ScheduleEngine
from secateur.thinning import Network, rebuild, save_network, unpruned
from tests.flows.tiny import SIZE, TinyNetwork
from tests.schedule.documents import THINNER, pruner, schedule_of

ARCH = "python:tests.flows.tiny:network"
IMAGES_NCHW = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def thinned(sparsities: tuple[float, float], seed: int = 0) -> Network:
    torch.manual_seed(seed)
    model = TinyNetwork(3).eval()
    steps = [(pruner([f"blocks.{i}.conv1.weight"], s), [0]) for i, s in enumerate(sparsities)]
    engine = ScheduleEngine(model, schedule_of(*steps, (THINNER, [0])), IMAGES_NCHW[:1], base_lr=0.1, num_epochs=0)
    engine.prune_before_training()
    return Network(module=model, arch=ARCH, num_classes=3, kept=engine.kept)


SPARSITIES = st.tuples(st.floats(0, 0.99), st.floats(0, 0.99))


@settings(max_examples=20)
@given(SPARSITIES, st.integers(0, 9))
def test_a_rebuilt_network_computes_the_same_under_the_same_names(sparsities: tuple[float, float], seed: int) -> None:
    network = thinned(sparsities, seed)
    again = rebuild(save_network(network))
    assert torch.equal(again.module(IMAGES_NCHW), network.module(IMAGES_NCHW))
    assert list(again.module.state_dict()) == list(network.module.state_dict())
    assert (again.arch, again.num_classes, dict(again.kept)) == (ARCH, 3, dict(network.kept))
    assert not again.module.training
    for name, module in again.module.named_modules():
        if isinstance(module, nn.Conv2d):
            assert (module.out_channels, module.in_channels) == module.weight.shape[:2], name


@settings(max_examples=10)
@given(SPARSITIES)
def test_equal_networks_are_equal_bytes(sparsities: tuple[float, float]) -> None:
    data = save_network(thinned(sparsities))
    assert data == save_network(thinned(sparsities))
    assert data == save_network(rebuild(data))
    assert data != save_network(thinned(sparsities, seed=1))


def test_what_is_written_beside_the_weights() -> None:
    data = save_network(thinned((0.5, 0.0)))
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["secateur"])
    assert (metadata["arch"], metadata["kwargs"]) == (ARCH, {"num_classes": 3})
    assert metadata["kept"]["blocks.0.conv2"] == {"in": 4, "out": list(range(8))}
    assert len(metadata["kept"]["blocks.0.conv1"]["out"]) == 4


def test_an_unpruned_network_has_all_its_filters() -> None:
    network = unpruned(TinyNetwork(3), ARCH, 3)
    assert set(network.kept.values()) == {tuple(range(8))}


VALID = save_network(unpruned(TinyNetwork(3), ARCH, 3))


@pytest.mark.parametrize(
    "data",
    [b"", b"no network", VALID[:100], VALID[:-4], safetensors.torch.save({"a": torch.zeros(1)}), b"\xff" * 64],
    ids=["nothing", "text", "header cut off", "weights cut off", "no metadata", "noise"],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match="This is not a network saved by secateur"):
        rebuild(data)


def test_a_network_of_an_unknown_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'resnet20_cifer'. Did you mean 'resnet20_cifar'"):
        rebuild(save_network(unpruned(TinyNetwork(3), "resnet20_cifer", 3)))


def test_a_network_whose_model_has_changed_is_refused() -> None:
    data = save_network(unpruned(TinyNetwork(3), "resnet20_cifar", 3))
    with pytest.raises(ModelError, match=r"(?s)model 'resnet20_cifar' is no longer what it was.*Missing key"):
        rebuild(data)
