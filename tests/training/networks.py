"""Small networks and images for the tests of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.datasets import ImageSet


@dataclass(frozen=True)
class Unchanged:
    """Normalisation that maps 0..255 to 0..1."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


def small_network(num_classes: int = 10, seed: int = 0) -> nn.Sequential:
    """Return two convolutions (16, 32 filters) with batch norm: enough for digits."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, num_classes),
    )


def some_images(num_images: int, num_classes: int = 10, size: int = 8, seed: int = 0) -> ImageSet:
    """Return noise with random labels."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (num_images, size, size, 3), dtype=torch.uint8, generator=generator)
    return ImageSet(images_NHWC=pixels, labels_N=torch.randint(num_classes, (num_images,), generator=generator))


class FixedLogits(nn.Module):
    """Looks its answer up: the logits of the row that the first pixel's red value numbers."""

    def __init__(self, logits_NK: Sequence[Sequence[float]]) -> None:
        super().__init__()
        self.logits_NK = nn.Parameter(torch.tensor(logits_NK))

    def forward(self, images_NCHW: Tensor) -> Tensor:
        return self.logits_NK[(images_NCHW[:, 0, 0, 0] * 255).round().long()]


def numbered_images(labels: Sequence[int]) -> ImageSet:
    """Return images for `FixedLogits`."""
    numbers = torch.arange(len(labels), dtype=torch.uint8)
    return ImageSet(
        images_NHWC=numbers.view(-1, 1, 1, 1).expand(-1, 2, 2, 3).contiguous(), labels_N=torch.tensor(labels)
    )
