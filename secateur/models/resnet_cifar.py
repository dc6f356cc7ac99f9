"""ResNets for 32 x 32 images (He et al. 2016, sec. 4.2), with the module names Distiller gives them.

Shortcuts that change the shape are a 1x1 convolution with batch normalisation (option B).
"""

from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; only the first may lose filters on its own."""

    def __init__(self, in_channels: int, num_filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, num_filters, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(num_filters)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(num_filters, num_filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(num_filters)
        self.relu2 = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != num_filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, num_filters, 1, stride, bias=False), nn.BatchNorm2d(num_filters)
            )

    def forward(self, features_NCHW: Tensor) -> Tensor:
        """Return the block's output, `N x num_filters x H/stride x W/stride`."""
        shortcut_NCHW = features_NCHW if self.downsample is None else self.downsample(features_NCHW)
        hidden_NCHW = self.relu1(self.bn1(self.conv1(features_NCHW)))
        output: Tensor = self.relu2(self.bn2(self.conv2(hidden_NCHW)) + shortcut_NCHW)
        return output


class ResNetCifar(nn.Module):
    """Three stages of 16, 32 and 64 filters, each of `num_blocks` residual blocks: 6 * num_blocks + 2 layers."""

    def __init__(self, num_blocks: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, num_blocks, stride=1)
        self.layer2 = _stage(16, 32, num_blocks, stride=2)
        self.layer3 = _stage(32, 64, num_blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits, `N x num_classes`."""
        features_NCHW = self.relu(self.bn1(self.conv1(images_NCHW)))
        features_NCHW = self.layer3(self.layer2(self.layer1(features_NCHW)))
        logits_NK: Tensor = self.fc(self.avgpool(features_NCHW).flatten(1))
        return logits_NK


def _stage(in_channels: int, num_filters: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, num_filters, stride)
    return nn.Sequential(first, *(BasicBlock(num_filters, num_filters, 1) for _ in range(num_blocks - 1)))
