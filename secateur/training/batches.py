"""From uint8 images to what a network is fed.

Shapes: N images, H height, W width, C = 3 channels.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Generator, Tensor, nn


class Images(Protocol):
    """Images and their classes; `secateur.datasets.ImageSet` is one."""

    @property
    def images_NHWC(self) -> Tensor:
        """Pixels, uint8."""

    @property
    def labels_N(self) -> Tensor:
        """Classes from 0, int64."""


class Normalization(Protocol):
    """Per-channel mean and standard deviation of images scaled to [0, 1]."""

    @property
    def mean(self) -> tuple[float, float, float]:
        """Subtracted."""

    @property
    def std(self) -> tuple[float, float, float]:
        """Divided by."""


def normalized(images_NHWC: Tensor, normalize: Normalization) -> Tensor:
    """Return `(images / 255 - mean) / std` as an N x C x H x W float32 tensor with channels last in memory."""
    mean_C = torch.tensor(normalize.mean, device=images_NHWC.device) * 255
    std_C = torch.tensor(normalize.std, device=images_NHWC.device) * 255
    return images_NHWC.float().sub_(mean_C).div_(std_C).permute(0, 3, 1, 2)


def augmented(images_NHWC: Tensor, *, max_shift: int, flip: bool, generator: Generator) -> Tensor:
    """Shift each image by up to `max_shift` pixels each way, and mirror half of them (He et al. 2016, sec. 4.2).

    Args:
        images_NHWC: uint8, on any device.
        max_shift: In pixels; what enters at the border is black.
        flip: Whether to mirror at all.
        generator: Of the CPU: the same draws whatever the device.
    """
    num_images, height, width, _ = images_NHWC.shape
    device = images_NHWC.device
    if max_shift:
        shifts_2N = torch.randint(0, 2 * max_shift + 1, (2, num_images), generator=generator).to(device)
        padded = F.pad(images_NHWC, (0, 0, max_shift, max_shift, max_shift, max_shift))
        # All windows of each image, as a view: N x rows x columns x C x H x W.
        windows_NHWC = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        images_NHWC = windows_NHWC[torch.arange(num_images, device=device), shifts_2N[0], shifts_2N[1]]
    if flip:
        is_mirrored_N = torch.rand(num_images, generator=generator).to(device) < 0.5
        images_NHWC = torch.where(is_mirrored_N.view(-1, 1, 1, 1), images_NHWC.flip(2), images_NHWC)
    return images_NHWC


def fastest_memory_format(model: nn.Module, images_NCHW: Tensor) -> torch.memory_format:
    """Return channels last, 1.2 to 1.7 times as fast on a CPU, unless the model cannot take it.

    A model that flattens maps with `view` cannot; so two images are tried.
    """
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(images_NCHW[:2].contiguous(memory_format=torch.channels_last))
    except RuntimeError:  # if the model cannot take anything else either, its next call says so
        return torch.contiguous_format
    finally:
        model.train(was_training)
    return torch.channels_last
