"""From uint8 images to what a network is fed.

Shapes: N images, H height, W width, C = 3 channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Generator, Tensor, nn

from secateur.training.settings import Device, TrainingSettings


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


def augmented(images_NHWC: Tensor, *, max_shift: int, flip: bool, cutout: int = 0, generator: Generator) -> Tensor:
    """Shift each image by up to `max_shift` pixels each way, and mirror half of them (He et al. 2016, sec. 4.2).

    Args:
        images_NHWC: uint8, on any device.
        max_shift: In pixels; what enters at the border is black.
        flip: Whether to mirror at all.
        cutout: Side of a black square around a random pixel, cut off at the border (DeVries and Taylor 2017).
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
    if cutout:
        is_cut_NHW = _within(height, cutout, num_images, generator).unsqueeze(2) & _within(
            width, cutout, num_images, generator
        ).unsqueeze(1)
        images_NHWC = images_NHWC.masked_fill(is_cut_NHW.to(device).unsqueeze(3), 0)
    return images_NHWC


def _within(length: int, side: int, num_images: int, generator: Generator) -> Tensor:
    """Return which of `length` pixels lie in a window of `side` around a random one: N x length, bool."""
    first_N1 = torch.randint(length, (num_images, 1), generator=generator) - side // 2
    pixels_L = torch.arange(length)
    return (pixels_L >= first_N1) & (pixels_L < first_N1 + side)


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


class Batches:
    """The training images, on the device if they fit, dealt anew for each epoch."""

    def __init__(self, model: nn.Module, images: Images, normalize: Normalization, settings: TrainingSettings) -> None:
        device = settings.device
        self._images_NHWC = images.images_NHWC.to(device) if _fit(images, device) else images.images_NHWC
        self._labels_N = images.labels_N.to(device)
        self._normalize = normalize
        self._settings = settings
        self._layout = fastest_memory_format(model, normalized(images.images_NHWC[:2].to(device), normalize))
        self.generator = Generator().manual_seed(settings.seed)
        """Apart from what the network draws."""

    def __len__(self) -> int:
        return math.ceil(len(self._labels_N) / self._settings.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once, in random order: N x C x H x W inputs and N labels."""
        settings = self._settings
        order_N = torch.randperm(len(self._labels_N), generator=self.generator).to(self._images_NHWC.device)
        for rows_N in torch.split(order_N, settings.batch_size):
            images_NHWC = augmented(
                self._images_NHWC.index_select(0, rows_N).to(settings.device),
                max_shift=settings.max_shift,
                flip=settings.flip,
                cutout=settings.cutout,
                generator=self.generator,
            )
            inputs_NCHW = normalized(images_NHWC, self._normalize).contiguous(memory_format=self._layout)
            yield inputs_NCHW, self._labels_N.index_select(0, rows_N.to(self._labels_N.device))


def _fit(images: Images, device: Device) -> bool:
    """Tell whether images take at most half of the device's free memory: the network needs some, too."""
    return device == "cpu" or 2 * images.images_NHWC.nbytes <= torch.cuda.mem_get_info()[0]
