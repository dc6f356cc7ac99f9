from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.training import recalibrate_bn
from secateur.training.batches import normalized
from tests.training.networks import Unchanged, small_network, some_images


def test_statistics_are_those_of_the_images() -> None:
    model, images = small_network(), some_images(100)
    nn.init.constant_(model[1].running_mean, 5.0)
    recalibrate_bn(model, images, Unchanged())
    with torch.no_grad():
        features_NCHW = model[0](normalized(images.images_NHWC, Unchanged()))
    torch.testing.assert_close(model[1].running_mean, features_NCHW.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[1].running_var, features_NCHW.var((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_a_small_last_batch_does_not_count() -> None:
    one, other = small_network(), small_network()
    recalibrate_bn(one, some_images(500), Unchanged(), num_images=256)
    recalibrate_bn(other, some_images(500), Unchanged(), num_images=300)
    assert torch.equal(one[1].running_mean, other[1].running_mean)
    assert one[1].num_batches_tracked == 2


@pytest.mark.parametrize("is_training", [True, False])
def test_weights_modes_and_randomness_are_left_alone(is_training: bool) -> None:
    model = nn.Sequential(nn.Dropout(0.5), *small_network()).train(is_training)
    model[2].eval()  # frozen by whoever built it
    weights = {name: weight.clone() for name, weight in model.named_parameters()}
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    recalibrate_bn(model, some_images(40), Unchanged())
    assert [module.training for module in model.modules()] == modes
    assert model[2].momentum == 0.1
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(weight, weights[name]) for name, weight in model.named_parameters())
    again = {name: buffer.clone() for name, buffer in model.named_buffers()}
    recalibrate_bn(model, some_images(40), Unchanged())
    assert all(torch.equal(buffer, again[name]) for name, buffer in model.named_buffers())


def test_a_network_without_normalisation_is_left_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    recalibrate_bn(model, some_images(8), Unchanged())
