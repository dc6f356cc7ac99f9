"""A folder of images: ``PATH/train/<class>/*`` and ``PATH/test/<class>/*``."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import torch

from secateur import progress
from secateur.config import Dataset, Normalize
from secateur.datasets.decoding import ImageFile, decode_once, decoded_shape, find_unreadable
from secateur.datasets.splits import ImageSet, Parts
from secateur.datasets.streamed import StreamedImages
from secateur.errors import DatasetError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
_TEST_FOLDERS = ("test", "val", "valid")
_NORMALIZE = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""ImageNet's, as most pretrained networks expect."""


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """The images of one part: class by class, files by name."""

    files: tuple[ImageFile, ...]
    labels: tuple[int, ...]
    numbers: tuple[int, ...]
    class_names: tuple[str, ...]


def find_folders(dataset: Dataset) -> tuple[Path, Path, Path]:
    """Return the folder of ``imagefolder:PATH``, and those of its training and test parts.

    Raises:
        DatasetError: One of them is missing.
    """
    root = Path(dataset.name.partition(":")[2]).expanduser()
    train_folder = root / "train"
    test_folder = next((root / name for name in _TEST_FOLDERS if (root / name).is_dir()), root / _TEST_FOLDERS[0])
    for folder in (root, train_folder, test_folder):
        if not folder.is_dir():
            raise DatasetError(
                f"dataset imagefolder: there is no folder {folder}. Expected {train_folder}/<class>/* and"
                f" {root / _TEST_FOLDERS[0]}/<class>/* (or val, valid)."
            )
    return root, train_folder, test_folder


def read_imagefolder(dataset: Dataset) -> Parts:
    """Read ``imagefolder:PATH``; without a ``test`` folder, ``val`` or ``valid`` serves as test part.

    Images that would take more than `dataset.max_memory_bytes` are streamed. Half of the machine's memory is the
    default, whatever is free of it: results are found again by how images are kept, too.

    Raises:
        DatasetError: Folders are missing or differ, a file is no image, or the sizes differ.
    """
    root, train_folder, test_folder = find_folders(dataset)
    train, test = _list_images(train_folder), _list_images(test_folder)
    if different := sorted(set(train.class_names) ^ set(test.class_names)):
        raise DatasetError(
            f"dataset imagefolder: {train_folder} and {test_folder} must have the same class folders; only one"
            f" of them has {', '.join(map(repr, different[:5]))}{', ...' if len(different) > 5 else ''}."
        )
    shapes = [
        decoded_shape(part.files, dataset.input_size, skip_unreadable=dataset.skip_unreadable) for part in (train, test)
    ]
    _check_sizes(shapes, root)
    is_streamed = _is_too_large(len(train.files) + len(test.files), shapes[0], dataset)
    (train_set, _), (test_set, numbers_N) = (
        _stream(part, dataset, shapes[0]) if is_streamed else _read(part, dataset) for part in (train, test)
    )
    return Parts(
        train=train_set,
        test=test_set,
        test_numbers_N=numbers_N,
        class_names=train.class_names,
        normalize=_NORMALIZE,
    )


def _is_too_large(num_images: int, shape_HW: tuple[int, int], dataset: Dataset) -> bool:
    """Tell whether decoded images would take more memory than they may."""
    limit = psutil.virtual_memory().total // 2 if dataset.max_memory_bytes is None else dataset.max_memory_bytes
    num_bytes = num_images * shape_HW[0] * shape_HW[1] * 3
    if num_bytes > limit:
        progress.message(
            f"dataset imagefolder: {num_images} images would take {num_bytes / 1e9:.3g} GB of memory, more than the"
            f" {limit / 1e9:.3g} GB of dataset.max_memory_bytes: they are decoded anew whenever they are read."
        )
    return num_bytes > limit


def _read(listing: _Listing, dataset: Dataset) -> tuple[ImageSet, npt.NDArray[np.int64]]:
    """Return the images and their files' numbers."""
    decoded = decode_once(listing.files, dataset.input_size, skip_unreadable=dataset.skip_unreadable)
    labels_N, numbers_N = (
        np.delete(np.array(column, dtype=np.int64), decoded.skipped) for column in (listing.labels, listing.numbers)
    )
    images = ImageSet(images_NHWC=torch.from_numpy(decoded.images_NHWC), labels_N=torch.from_numpy(labels_N))
    return images, numbers_N


def _stream(
    listing: _Listing, dataset: Dataset, shape_HW: tuple[int, int]
) -> tuple[StreamedImages, npt.NDArray[np.int64]]:
    """Do as `_read`, but leave the images in their files."""
    unreadable = find_unreadable(listing.files, dataset.input_size) if dataset.skip_unreadable else ()
    is_readable_N = np.ones(len(listing.files), dtype=np.bool_)
    is_readable_N[list(unreadable)] = False
    images = StreamedImages(
        files=listing.files,
        labels_N=torch.tensor(listing.labels, dtype=torch.int64),
        input_size=dataset.input_size,
        shape_HW=shape_HW,
    )
    return images.select(is_readable_N), np.array(listing.numbers, dtype=np.int64)[is_readable_N]


def listing_digest(dataset: Dataset) -> str:
    """Return a digest of the names, sizes and times of all images of ``imagefolder:PATH``; none is read.

    Raises:
        DatasetError: Folders are missing or empty.
    """
    listings = [_list_images(folder) for folder in find_folders(dataset)[1:]]
    return hashlib.sha256(repr([listing.files for listing in listings]).encode()).hexdigest()


def _check_sizes(shapes_HW: Sequence[tuple[int, int]], root: Path) -> None:
    if len({side for shape_HW in shapes_HW for side in shape_HW}) > 1:
        shown = " and ".join(f"{width} x {height}" for height, width in sorted(set(shapes_HW)))
        raise DatasetError(
            f"dataset imagefolder: the images of {root} must be square and of one size, got {shown} pixels."
            " Set dataset.input_size to resize them."
        )


def _list_images(folder: Path) -> _Listing:
    class_names = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not class_names:
        raise DatasetError(f"dataset imagefolder: {folder} has no class folders. Expected {folder}/<class>/*.jpg.")
    files: list[ImageFile] = []
    labels: list[int] = []
    numbers: list[int] = []
    for label, name in enumerate(class_names):
        here = sorted(_images_in(folder / name), key=lambda file: file.name)
        if not here:
            raise DatasetError(
                f"dataset imagefolder: {folder / name} has no images"
                f" ({' '.join(_SUFFIXES)}). Add some, or remove the folder."
            )
        files += here
        labels += [label] * len(here)
        numbers += [_number(file.name, position) for position, file in enumerate(here)]
    return _Listing(files=tuple(files), labels=tuple(labels), numbers=tuple(numbers), class_names=class_names)


def _images_in(folder: Path) -> list[ImageFile]:
    found = []
    for entry in os.scandir(folder):
        if entry.name.lower().endswith(_SUFFIXES) and entry.is_file():
            stat = entry.stat()
            found.append(
                ImageFile(class_folder=folder, name=entry.name, num_bytes=stat.st_size, mtime_ns=stat.st_mtime_ns)
            )
    return found


def _number(name: str, position: int) -> int:
    stem = name.rpartition(".")[0]
    return int(stem) if stem.isascii() and stem.isdecimal() else position
