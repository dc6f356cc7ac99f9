"""Real networks, pruned at random: what is thinned computes what is silenced, is exported, and can be trained."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.export import export_onnx
from secateur.models import create_model
from secateur.pruning import ScheduleEngine
from secateur.thinning import (
    ChannelSpace,
    Network,
    all_filters,
    count_macs,
    count_params,
    rebuild,
    save_network,
    trace_channel_spaces,
)
from tests.schedule.documents import THINNER, pruner, schedule_of

SIZES = {"vgg16_bn": 224}
"""Pixels; 64, that is quick, where nothing else is said. VGG's last pooling is exported for its usual size alone."""

FAST = ("resnet18", "mobilenet_v3_small", "squeezenet1_1")
NETWORKS = (
    *FAST,
    "resnet50",
    "vgg16_bn",
    "mobilenet_v2",
    "efficientnet_b0",
    "densenet121",
    "googlenet",
    "regnet_y_400mf",
    "resnext50_32x4d",
    "shufflenet_v2_x1_0",
    "convnext_tiny",
)


def make(name: str, seed: int) -> nn.Module:
    """Return a network with statistics that are not those of a fresh one."""
    torch.manual_seed(seed)
    model = create_model(f"torchvision:{name}", 10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            assert isinstance(module.running_mean, Tensor)
            assert isinstance(module.running_var, Tensor)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Linear):
            module.bias.data = torch.linspace(-0.2, 0.2, len(module.bias))  # `silenced` tells features by it
    return model.eval()


def example_of(name: str) -> Tensor:
    """Return an input of the size the network is tested with."""
    size = SIZES.get(name, 64)
    return torch.zeros(1, 3, size, size)


@cache
def spaces_of(name: str) -> tuple[ChannelSpace, ...]:
    """Trace an architecture once for all tests."""
    return trace_channel_spaces(make(name, 0), example_of(name))


def random_steps(model: nn.Module, spaces: Iterable[ChannelSpace], seed: int) -> list[tuple[dict[str, Any], list[int]]]:
    """Prune every space at a sparsity of its own: filters of convolutions; of linear layers, what reads them."""
    chance = random.Random(seed)
    steps: list[tuple[dict[str, Any], list[int]]] = []
    for space in spaces:
        if space.obstacle is not None:
            continue
        is_of_filters = all(isinstance(model.get_submodule(m.layer), nn.Conv2d) for m in space.producers)
        members = space.producers if is_of_filters else space.consumers
        fields: dict[str, Any] = {"group_type": "Filters" if is_of_filters else "Channels"}
        if len(members) > 1:
            fields["group_dependency"] = "Leader"
        steps.append((pruner([f"{m.layer}.weight" for m in members], chance.uniform(0, 0.9), **fields), [0]))
    return [*steps, (THINNER, [0])]


def silenced(model: nn.Module, network: Network, spaces: Iterable[ChannelSpace]) -> nn.Module:
    """Return a copy of the network before, with zeros where the thinned network has nothing any more."""
    silent = copy.deepcopy(model)
    before = all_filters(model)
    for space in spaces:
        gone = torch.zeros(space.num_units, dtype=torch.bool)
        for member in (*space.producers, *space.carriers):
            if member.layer in before:
                removed = sorted(set(before[member.layer]) - set(network.kept[member.layer]))
                gone[member.units[removed]] = True
            else:
                full = model.get_submodule(member.layer).bias
                left = network.module.get_submodule(member.layer).bias
                assert isinstance(full, Tensor)
                assert isinstance(left, Tensor)
                gone[member.units[~torch.isin(full, left)]] = True
        for kind, member in space.members():
            if kind != "consumers":
                module = silent.get_submodule(member.layer)
                for parameter in module.parameters():
                    parameter.data[gone[member.units] & (member.units >= 0)] = 0
    return silent


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in NETWORKS]
)
def test_a_thinned_network_is_the_silenced_one(name: str, seed: int) -> None:
    model, spaces = make(name, seed), spaces_of(name)
    before = copy.deepcopy(model)
    schedule = schedule_of(*random_steps(model, spaces, seed), thin="contract_model")
    example_NCHW = example_of(name)
    engine = ScheduleEngine(model, schedule, example_NCHW, base_lr=0.1, num_epochs=0, spaces=spaces)
    engine.prune_before_training()
    network = Network(module=model, arch=f"torchvision:{name}", num_classes=10, kept=engine.kept)

    images_NCHW = torch.randn(2, *example_NCHW.shape[1:], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected_NK = silenced(before, network, spaces)(images_NCHW)
        assert (model(images_NCHW) - expected_NK).abs().max() <= 1e-4 * expected_NK.abs().max()
    assert count_params(model) < count_params(before)
    assert count_macs(model, example_NCHW) < count_macs(before, example_NCHW)
    export_onnx(model, example_NCHW.shape[-1])  # compares with what the file computes

    again = rebuild(save_network(network)).module
    with torch.no_grad():
        assert torch.equal(again(images_NCHW), model(images_NCHW))
    again.train()
    optimizer = torch.optim.SGD(again.parameters(), lr=0.01, momentum=0.9)
    again(images_NCHW).square().sum().backward()
    assert all(parameter.grad is not None for parameter in again.parameters())
    weights = [parameter.detach().clone() for parameter in again.parameters()]
    optimizer.step()
    assert any(not torch.equal(old, new) for old, new in zip(weights, again.parameters(), strict=True))
    assert again.eval()(images_NCHW).shape == (2, 10)
