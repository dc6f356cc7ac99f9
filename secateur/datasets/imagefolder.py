"""A folder of images: ``PATH/train/<class>/*`` and ``PATH/test/<class>/*``."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from secateur.config import Dataset, Normalize
from secateur.datasets.decoding import ImageFile, decode_once
from secateur.datasets.splits import ImageSet, Parts
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
    (train_set, _), (test_set, numbers_N) = (_read(part, dataset) for part in (train, test))
    _check_sizes(train_set, test_set, root)
    return Parts(
        train=train_set,
        test=test_set,
        test_numbers_N=numbers_N,
        class_names=train.class_names,
        normalize=_NORMALIZE,
    )


def _read(listing: _Listing, dataset: Dataset) -> tuple[ImageSet, npt.NDArray[np.int64]]:
    """Return the images and their files' numbers."""
    decoded = decode_once(listing.files, dataset.input_size, skip_unreadable=dataset.skip_unreadable)
    labels_N, numbers_N = (
        np.delete(np.array(column, dtype=np.int64), decoded.skipped) for column in (listing.labels, listing.numbers)
    )
    images = ImageSet(images_NHWC=torch.from_numpy(decoded.images_NHWC), labels_N=torch.from_numpy(labels_N))
    return images, numbers_N


def listing_digest(dataset: Dataset) -> str:
    """Return a digest of the names, sizes and times of all images of ``imagefolder:PATH``; none is read.

    Raises:
        DatasetError: Folders are missing or empty.
    """
    listings = [_list_images(folder) for folder in find_folders(dataset)[1:]]
    return hashlib.sha256(repr([listing.files for listing in listings]).encode()).hexdigest()


def _check_sizes(train: ImageSet, test: ImageSet, root: Path) -> None:
    sizes = {tuple(part.images_NHWC.shape[1:3]) for part in (train, test)}
    if len({side for size in sizes for side in size}) > 1:
        shown = " and ".join(f"{width} x {height}" for height, width in sorted(sizes))
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
