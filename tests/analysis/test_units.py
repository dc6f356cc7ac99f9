"""What can be pruned on its own, and what only together."""

from __future__ import annotations

import torch

from secateur.analysis.units import find_units, schedule_of
from secateur.models import create_model
from secateur.schedule import check_fit
from secateur.thinning import trace_channel_spaces


def test_units_of_a_residual_network() -> None:
    model = create_model("resnet20_cifar", 10)
    units = find_units(model, trace_channel_spaces(model, torch.zeros(1, 3, 32, 32)))
    single = [unit.layers[0] for unit in units if len(unit.layers) == 1]
    coupled = [unit.layers for unit in units if len(unit.layers) > 1]
    assert single == [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in range(3)]
    assert [layers[0] for layers in coupled] == ["conv1", "layer2.0.conv2", "layer3.0.conv2"]
    assert set(coupled[1]) == {"layer2.0.downsample.0", *(f"layer2.{block}.conv2" for block in range(3))}
    assert [unit.num_filters for unit in units if unit.layers in coupled] == [16, 32, 64]


def test_a_unit_has_a_schedule_that_fits_its_network() -> None:
    model = create_model("resnet20_cifar", 10)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for unit in find_units(model, trace_channel_spaces(model, torch.zeros(1, 3, 32, 32))):
        check_fit(schedule_of(unit, 0.5), shapes, "resnet20_cifar", num_epochs=0)


def test_the_logits_are_no_unit() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
    units = find_units(model, trace_channel_spaces(model, torch.zeros(1, 3, 8, 8)))
    assert [unit.layers for unit in units] == [("0",)]
