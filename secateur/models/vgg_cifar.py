"""VGGs for 32 x 32 images (Simonyan and Zisserman 2015, table 1, columns A and D), named as Distiller names them.

One linear layer follows the convolutions, as is usual on CIFAR.
"""

from __future__ import annotations

from torch import Tensor, nn

_STAGES = {
    11: ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    16: ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
}
"""Layers -> the filters of each stage; every stage halves height and width."""


class VGGCifar(nn.Module):
    """3x3 convolutions with biases, batch normalised or not, and a linear classifier."""

    def __init__(self, num_layers: int, num_classes: int, *, has_norms: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_channels = 3
        for stage in _STAGES[num_layers]:
            for num_filters in stage:
                layers.append(nn.Conv2d(in_channels, num_filters, 3, padding=1))
                layers += [nn.BatchNorm2d(num_filters)] if has_norms else []
                layers.append(nn.ReLU())
                in_channels = num_filters
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(in_channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return logits, `N x num_classes`."""
        logits_NK: Tensor = self.classifier(self.avgpool(self.features(images_NCHW)).flatten(1))
        return logits_NK
