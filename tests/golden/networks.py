"""The networks of the golden data, with their weights."""

from __future__ import annotations

import copy
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from secateur.models import create_model, load_weights
from tests.golden.npinit import initialise
from tests.golden.regenerate import HERE, ORIGINALS

IMAGES_NCHW = torch.from_numpy(np.random.RandomState(0).randn(4, 3, 32, 32).astype(np.float32))
TOLERANCE = 1e-5
"""Of max |logit|."""


def network(model: str) -> nn.Module:
    """Return a network of its own for ``<arch>@<weights>``, in eval mode."""
    return copy.deepcopy(dense_network(model))


@lru_cache(maxsize=4)
def dense_network(model: str) -> nn.Module:
    """Return a network that nobody may change."""
    arch, _, weights = model.partition("@")
    module = Plain20() if arch == "plain20_cifar" else create_model(arch, 10)
    if weights == "npinit":
        initialise(module)
    else:
        name = f"{arch}_{weights}.npz"
        load_weights(module, HERE / name if (HERE / name).exists() else ORIGINALS / "weights" / name)
    return module.eval()


def assert_logits(logits_NK: Tensor, expected: list[list[float]], tolerance: float = TOLERANCE) -> None:
    """Compare logits relative to the largest."""
    expected_NK = torch.tensor(expected)
    assert (logits_NK.detach() - expected_NK).abs().max() <= tolerance * expected_NK.abs().max()


class Plain20(nn.Module):
    """ResNet20 without shortcuts: every convolution may lose filters on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(_PlainBlock(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(_PlainBlock(16, 32, 2), _PlainBlock(32, 32, 1), _PlainBlock(32, 32, 1))
        self.layer3 = nn.Sequential(_PlainBlock(32, 64, 2), _PlainBlock(64, 64, 1), _PlainBlock(64, 64, 1))
        self.fc = nn.Linear(64, 10)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features_NCHW = self.bn1(self.conv1(images_NCHW)).relu()
        features_NCHW = self.layer3(self.layer2(self.layer1(features_NCHW)))
        logits_NK: Tensor = self.fc(features_NCHW.mean((2, 3)))
        return logits_NK


class _PlainBlock(nn.Module):
    def __init__(self, in_channels: int, num_filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, num_filters, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_filters)
        self.conv2 = nn.Conv2d(num_filters, num_filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_filters)

    def forward(self, features_NCHW: Tensor) -> Tensor:
        hidden_NCHW = self.bn1(self.conv1(features_NCHW)).relu()
        output_NCHW: Tensor = self.bn2(self.conv2(hidden_NCHW)).relu()
        return output_NCHW
