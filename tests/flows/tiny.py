"""A study that trains in a moment: a network of four convolutions, 96 images of 8 x 8 pixels, three classes.

Studies name what is here as ``python:tests.flows.tiny:...``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from secateur.config import Normalize
from secateur.datasets import ImageSet, Splits
from secateur.models.resnet_cifar import BasicBlock

NUM_CLASSES = 3
SIZE = 8


class TinyNetwork(nn.Module):
    """A convolution, and two residual blocks, by default of eight filters."""

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.fc = nn.Linear(width, num_classes)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features_NCHW = self.blocks(torch.relu(self.bn1(self.conv1(images_NCHW))))
        logits_NK: Tensor = self.fc(features_NCHW.mean(dim=(2, 3)))
        return logits_NK


def network(num_classes: int) -> nn.Module:
    """Make the network, with fresh weights."""
    return TinyNetwork(num_classes)


def wide_network(num_classes: int) -> nn.Module:
    """Make one that is certainly faster when it is pruned."""
    return TinyNetwork(num_classes, width=96)


def images() -> Splits:
    """Return images whose colour is their class."""
    generator = torch.Generator().manual_seed(0)
    half = Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    train, validation, test = (_image_set(count, generator) for count in (48, 24, 24))
    return Splits(train=train, validation=validation, test=test, class_names=("red", "green", "blue"), normalize=half)


def _image_set(count: int, generator: torch.Generator) -> ImageSet:
    labels_N = torch.arange(count) % NUM_CLASSES
    noise_NHWC = torch.randint(0, 128, (count, SIZE, SIZE, 3), generator=generator)
    colour_NHWC = 96 * torch.eye(NUM_CLASSES, dtype=torch.int64)[labels_N].reshape(count, 1, 1, 3)
    return ImageSet(images_NHWC=(noise_NHWC + colour_NHWC).to(torch.uint8), labels_N=labels_N)


def red_recall(model: nn.Module, images: ImageSet) -> dict[str, float]:
    """Return the share of red images that the network calls red: a metric of the user's own."""
    with torch.no_grad():
        inputs_NCHW = images.images_NHWC.permute(0, 3, 1, 2).float() / 127.5 - 1
        is_called_red_N = model(inputs_NCHW).argmax(1) == 0
    return {"red_recall": float(is_called_red_N[images.labels_N == 0].float().mean())}


SCHEDULE: dict[str, Any] = {
    "version": 1,
    "pruners": {
        f"pruner_{i}": {
            "class": "L1RankedStructureParameterPruner",
            "group_type": "Filters",
            "desired_sparsity": 0.5,
            "weights": [f"module.blocks.{i}.conv1.weight"],
        }
        for i in range(2)
    },
    "extensions": {"thinner": {"class": "FilterRemover", "thinning_func_str": "remove_filters"}},
    "lr_schedulers": {"halving": {"class": "ExponentialLR", "gamma": 0.5}},
    "policies": [
        {"pruner": {"instance_name": "pruner_0"}, "epochs": [0]},
        {"pruner": {"instance_name": "pruner_1"}, "epochs": [0]},
        {"extension": {"instance_name": "thinner"}, "epochs": [0]},
        {"lr_scheduler": {"instance_name": "halving"}, "starting_epoch": 0, "ending_epoch": 9, "frequency": 1},
    ],
}

DEVICE: dict[str, Any] = {
    "name": "quick",
    "num_threads": 1,
    "precision": "f32",
    "num_warmups": 1,
    "min_rounds": 5,
    "num_processes": 1,
    "max_duration_s": 0.05,
    "target_half_width": 1e9,
}
"""A profile that is content with any figure: nothing is noisy, and a measurement takes a moment."""

STUDY: dict[str, Any] = {
    "name": "tiny",
    "model": "python:tests.flows.tiny:network",
    "dataset": "python:tests.flows.tiny:images",
    "schedule": "schedule.yaml",
    "device": "quick.yaml",
    "search": {
        "method": "random",
        "parameters": {
            "pruner_0.desired_sparsity": {"min": 0.0, "max": 0.9},
            "pruner_1.desired_sparsity": {"min": 0.0, "max": 0.9},
        },
        "objectives": {"latency_ratio": "minimize", "top1": "maximize"},
        "constraints": ["top1 >= baseline - 50"],
    },
    "baseline": {"epochs": 2, "lr": 0.1, "batch_size": 16},
    "training": {"epochs": 1, "lr": 0.05, "batch_size": 16},
    "budget": {"trials": 3, "parallel": 2},
}


def write_study(folder: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """Write the study, its schedule and its device profile into `folder`; return the study's path.

    Args:
        folder: Where; must exist.
        changes: Keys of the study, dots between nested ones (but for the parameters), and their values.
    """
    study: dict[str, Any] = yaml.safe_load(yaml.safe_dump(STUDY))
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        target = study
        for parent in parents:
            target = target[parent]
        target[last] = value
    (folder / "schedule.yaml").write_text(yaml.safe_dump(SCHEDULE, sort_keys=False))
    (folder / "quick.yaml").write_text(yaml.safe_dump(DEVICE, sort_keys=False))
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path
