"""From uint8 images to what a network is fed.

Shapes: N images, H height, W width, C = 3 channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Generator, Tensor, nn

from secateur.training.processes import Part, own_part
from secateur.training.settings import Device, TrainingSettings


class Images(Protocol):
    """Images and their classes: `secateur.datasets` has them in memory, and streamed from files."""

    @property
    def images_NHWC(self) -> Tensor | None:
        """Pixels, uint8; None where they are not all in memory."""

    @property
    def labels_N(self) -> Tensor:
        """Classes from 0, int64."""

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels of each batch of rows: N x H x W x 3, uint8. Closing it ends all work ahead."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagesInMemory:
    """The plainest of `Images`."""

    images_NHWC: Tensor
    labels_N: Tensor

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels of each batch of rows."""
        for rows_N in rows:
            yield self.images_NHWC.index_select(0, rows_N.to(self.images_NHWC.device))


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


def augmented(
    images_NHWC: Tensor,
    *,
    max_shift: int,
    flip: bool,
    cutout: int = 0,
    generator: Generator,
    part: Part | None = None,
) -> Tensor:
    """Shift each image by up to `max_shift` pixels each way, and mirror half of them (He et al. 2016, sec. 4.2).

    Args:
        images_NHWC: uint8, on any device.
        max_shift: In pixels; what enters at the border is black.
        flip: Whether to mirror at all.
        cutout: Side of a black square around a random pixel, cut off at the border (DeVries and Taylor 2017).
        generator: Of the CPU: the same draws whatever the device.
        part: Which of a minibatch these images are: what becomes of one does not depend on who has it.
    """
    num_images, height, width, _ = images_NHWC.shape
    device = images_NHWC.device
    num_drawn, rows = (num_images, slice(None)) if part is None else (part.num_rows, part.rows)
    if max_shift:
        shifts_2N = torch.randint(0, 2 * max_shift + 1, (2, num_drawn), generator=generator)[:, rows].to(device)
        padded = F.pad(images_NHWC, (0, 0, max_shift, max_shift, max_shift, max_shift))
        # All windows of each image, as a view: N x rows x columns x C x H x W.
        windows_NHWC = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
        images_NHWC = windows_NHWC[torch.arange(num_images, device=device), shifts_2N[0], shifts_2N[1]]
    if flip:
        is_mirrored_N = torch.rand(num_drawn, generator=generator)[rows].to(device) < 0.5
        images_NHWC = torch.where(is_mirrored_N.view(-1, 1, 1, 1), images_NHWC.flip(2), images_NHWC)
    if cutout:
        is_cut_NHW = _within(height, cutout, num_drawn, generator).unsqueeze(2) & _within(
            width, cutout, num_drawn, generator
        ).unsqueeze(1)
        images_NHWC = images_NHWC.masked_fill(is_cut_NHW[rows].to(device).unsqueeze(3), 0)
    return images_NHWC


def _within(length: int, side: int, num_images: int, generator: Generator) -> Tensor:
    """Return which of `length` pixels lie in a window of `side` around a random one: N x length, bool."""
    first_N1 = torch.randint(length, (num_images, 1), generator=generator) - side // 2
    pixels_L = torch.arange(length)
    return (pixels_L >= first_N1) & (pixels_L < first_N1 + side)


def fastest_memory_format(
    model: nn.Module, images: Images, normalize: Normalization, device: Device
) -> torch.memory_format:
    """Return channels last, 1.2 to 1.7 times as fast on a CPU, unless the model, on `device`, cannot take it.

    A model that flattens maps with `view` cannot; so two images are tried.
    """
    first_N = torch.arange(min(2, len(images.labels_N)))
    inputs_NCHW = normalized(next(images.batches([first_N])).to(device), normalize)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            model(inputs_NCHW.contiguous(memory_format=torch.channels_last))
    except RuntimeError:  # if the model cannot take anything else either, its next call says so
        return torch.contiguous_format
    finally:
        model.train(was_training)
    return torch.channels_last


@dataclass(frozen=True, kw_only=True, eq=False)
class Minibatch:
    """What one step is computed on; of a minibatch that several processes share, this one's part."""

    inputs_NCHW: Tensor
    labels_N: Tensor
    share: float
    """Of the whole minibatch."""
    num_images: int
    """Of the whole minibatch."""


class Batches:
    """The training images, on the device if they fit, dealt anew for each epoch."""

    def __init__(self, model: nn.Module, images: Images, normalize: Normalization, settings: TrainingSettings) -> None:
        device = settings.device
        pixels_NHWC = images.images_NHWC
        self._images = images
        if pixels_NHWC is not None and _fit(pixels_NHWC, device):
            self._images = ImagesInMemory(images_NHWC=pixels_NHWC.to(device), labels_N=images.labels_N)
        self._labels_N = images.labels_N.to(device)
        self._normalize = normalize
        self._settings = settings
        self._layout = fastest_memory_format(model, images, normalize, device)
        self.generator = Generator().manual_seed(settings.seed)
        """Apart from what the network draws."""

    def __len__(self) -> int:
        return math.ceil(len(self._labels_N) / self._settings.batch_size)

    def __iter__(self) -> Iterator[Minibatch]:
        """Yield every image once, in random order; of each minibatch the part of this process."""
        settings = self._settings
        order_N = torch.randperm(len(self._labels_N), generator=self.generator)
        minibatches = torch.split(order_N, settings.batch_size)
        parts = [own_part(len(rows_N)) for rows_N in minibatches]
        rows = [rows_N[part.rows] for rows_N, part in zip(minibatches, parts, strict=True)]
        for rows_N, part, images_NHWC in zip(rows, parts, self._images.batches(rows), strict=True):
            augmented_NHWC = augmented(
                images_NHWC.to(settings.device),
                max_shift=settings.max_shift,
                flip=settings.flip,
                cutout=settings.cutout,
                generator=self.generator,
                part=part,
            )
            yield Minibatch(
                inputs_NCHW=normalized(augmented_NHWC, self._normalize).contiguous(memory_format=self._layout),
                labels_N=self._labels_N.index_select(0, rows_N.to(self._labels_N.device)),
                share=part.share,
                num_images=part.num_rows,
            )


def _fit(pixels_NHWC: Tensor, device: Device) -> bool:
    """Tell whether images take at most half of the device's free memory: the network needs some, too."""
    return device == "cpu" or 2 * pixels_NHWC.nbytes <= torch.cuda.mem_get_info()[0]
