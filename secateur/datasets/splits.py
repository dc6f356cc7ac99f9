"""Image sets, and how they are divided into training, validation and test.

Shapes: N images, H height, W width (H = W), C = 3 channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor

from secateur.config import FromTest, Normalize
from secateur.datasets.streamed import StreamedImages
from secateur.errors import DatasetError

DEFAULT_INPUT_SIZE = 32
"""Height and width in pixels of the datasets that have a name."""

_RESIZE_CHUNK = 1000
"""Images resized at once: bounds the memory of the floats in between."""

_SEED = 0
"""Splits are part of a result's identity: they never depend on a study's seed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images and their classes, in memory or memory-mapped."""

    images_NHWC: Tensor
    """uint8, RGB, not normalised."""
    labels_N: Tensor
    """int64, classes from 0."""

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def shape_HW(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.images_NHWC.shape[1], self.images_NHWC.shape[2]

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels of each batch of rows, uint8."""
        for rows_N in rows:
            yield self.images_NHWC.index_select(0, rows_N)

    def select(self, is_selected_N: npt.NDArray[np.bool_]) -> ImageSet:
        """Return a copy of the images where `is_selected_N`, in order."""
        rows = torch.from_numpy(np.flatnonzero(is_selected_N))
        return ImageSet(images_NHWC=self.images_NHWC[rows], labels_N=self.labels_N[rows])

    def resized(self, size: int) -> ImageSet:
        """Return the images at `size x size` pixels (bilinear, antialiased)."""
        if self.images_NHWC.shape[1:3] == (size, size):
            return self
        chunks = [_resize(chunk, size) for chunk in torch.split(self.images_NHWC, _RESIZE_CHUNK)]
        return ImageSet(images_NHWC=torch.cat(chunks), labels_N=self.labels_N)

    @cached_property
    def digest(self) -> str:
        """sha256 of shape, pixels and labels."""
        digest = hashlib.sha256(repr(tuple(self.images_NHWC.shape)).encode())
        digest.update(np.ascontiguousarray(self.images_NHWC.numpy()).data)
        digest.update(np.ascontiguousarray(self.labels_N.numpy()).data)
        return digest.hexdigest()


def _resize(images_NHWC: Tensor, size: int) -> Tensor:
    images_NCHW = images_NHWC.permute(0, 3, 1, 2).float()
    resized_NCHW = F.interpolate(images_NCHW, (size, size), mode="bilinear", antialias=True)
    return resized_NCHW.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


Images = ImageSet | StreamedImages


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """A dataset as its makers divided it."""

    train: Images
    test: Images
    test_numbers_N: npt.NDArray[np.int64]
    """File number of each test image; its index where there are no files."""
    class_names: tuple[str, ...]
    normalize: Normalize
    is_flippable: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """What a study trains on, chooses by, and tests finalists with; no image is in two of them."""

    train: Images
    validation: Images
    test: Images
    class_names: tuple[str, ...]
    normalize: Normalize
    is_flippable: bool = True
    """A mirrored image still belongs to its class (not so for digits)."""

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    @property
    def input_size(self) -> int:
        """Height and width of every image, in pixels."""
        return self.train.shape_HW[0]


def data_identity(splits: Splits) -> str:
    """Return a sha256 over everything that accuracy depends on: pixels, labels, split, normalisation.

    The pixels are hashed once for each image set (about 0.2 s for CIFAR-10); of streamed images names, sizes and times.
    """
    sets = (splits.train.digest, splits.validation.digest, splits.test.digest)
    rest = (splits.num_classes, splits.is_flippable, splits.normalize.mean, splits.normalize.std)
    return hashlib.sha256(repr((sets, rest)).encode()).hexdigest()


def split(parts: Parts, validation: int | FromTest | None) -> Splits:
    """Divide a dataset.

    Args:
        parts: The dataset as its makers divided it.
        validation: That many images carved from the training part, stratified by class; or one half of the
            test part, by file number; or None: a sixth of the training part.

    Raises:
        DatasetError: One of the three would be empty.
    """
    if isinstance(validation, FromTest):
        train, (valid, test) = parts.train, _divide_by_number(parts, validation)
    else:
        test = parts.test
        train, valid = _carve(parts.train, max(1, len(parts.train) // 6) if validation is None else validation)
    return Splits(
        train=train,
        validation=valid,
        test=test,
        class_names=parts.class_names,
        normalize=parts.normalize,
        is_flippable=parts.is_flippable,
    )


def halve_test(splits: Splits) -> tuple[Images, Images]:
    """Divide the test part in two, stratified by class, the same at every call.

    Returns:
        The second validation part, which neither weights, retraining nor search have seen: the finalists are judged on
        it. And what is left for the figure that is published.

    Raises:
        DatasetError: There are fewer than two test images.
    """
    num_images = len(splits.test)
    if num_images < 2:
        raise DatasetError(
            f"the test part has {num_images} image(s): one half judges finalists, the other is published."
        )
    is_judging_N = stratified_sample(splits.test.labels_N.numpy(), num_images // 2)
    return splits.test.select(is_judging_N), splits.test.select(~is_judging_N)


def _carve(train: Images, num_validation: int) -> tuple[Images, Images]:
    if num_validation >= len(train):
        raise DatasetError(
            f"dataset.validation: the training part has {len(train)} images, so fewer can be carved from it,"
            f" got {num_validation}. Name a smaller number, or {{from: test, files: even}}."
        )
    is_carved_N = stratified_sample(train.labels_N.numpy(), num_validation)
    return train.select(~is_carved_N), train.select(is_carved_N)


def _divide_by_number(parts: Parts, validation: FromTest) -> tuple[Images, Images]:
    remainder = 0 if validation.files == "even" else 1
    is_valid_N = parts.test_numbers_N % 2 == remainder
    if is_valid_N.all() or not is_valid_N.any():
        only = "even" if is_valid_N.all() == (remainder == 0) else "odd"
        raise DatasetError(
            f"dataset.validation: the test part cannot be halved by file number: all {len(is_valid_N)} numbers"
            f" are {only}. Renumber the files, or carve validation images from train (validation: 5000)."
        )
    return parts.test.select(is_valid_N), parts.test.select(~is_valid_N)


def stratified_sample(labels_N: npt.NDArray[np.int64], num_images: int) -> npt.NDArray[np.bool_]:
    """Draw `num_images` without replacement, from each class in proportion to its size (Sainte-Lague's method).

    The same labels give the same sample, on every machine and with every numpy: the legacy generator is frozen.

    Returns:
        A mask of N booleans, `num_images` of them True.
    """
    order_N = np.random.RandomState(_SEED).permutation(len(labels_N))
    quantiles_N = np.empty(len(labels_N))
    for label in np.unique(labels_N):
        members = order_N[labels_N[order_N] == label]
        quantiles_N[members] = (np.arange(len(members)) + 0.5) / len(members)
    # Equal quantiles (classes of one size) are told apart by the shuffled order.
    ranking_N = order_N[np.argsort(quantiles_N[order_N], kind="stable")]
    is_drawn_N = np.zeros(len(labels_N), dtype=np.bool_)
    is_drawn_N[ranking_N[:num_images]] = True
    return is_drawn_N
