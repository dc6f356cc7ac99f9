"""From a study's `dataset` section to images."""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import torch

from secateur import progress
from secateur.config import Dataset
from secateur.datasets.imagefolder import find_folders, listing_digest, read_imagefolder
from secateur.datasets.splits import DEFAULT_INPUT_SIZE, Images, ImageSet, Parts, Splits, split
from secateur.errors import DatasetError, did_you_mean
from secateur.references import resolve

# By name, imported where they are asked for: scikit-learn and torchvision take seconds.
_READERS = {
    "digits": ("secateur.datasets.digits", "read_digits"),
    "cifar10": ("secateur.datasets.cifar", "read_cifar"),
    "cifar100": ("secateur.datasets.cifar", "read_cifar"),
}
_LOADING = threading.Lock()
"""The first who asks loads the images, the others wait for them."""
_FORMS = ("imagefolder:PATH", "python:package.module:function")


def load_splits(dataset: Dataset) -> Splits:
    """Load a dataset and divide it; the same files and settings always give the same splits.

    CIFAR is downloaded on first use, image folders are decoded on first use; both may take minutes.

    Raises:
        DatasetError: It is unknown, absent, damaged, or not what the study says.
    """
    check_dataset(dataset)
    if dataset.name in _READERS:
        module, function = _READERS[dataset.name]
        read: Callable[[Dataset], Parts] = getattr(importlib.import_module(module), function)
        splits = split(read(dataset), dataset.validation)
    elif dataset.name.startswith("imagefolder:"):
        splits = split(read_imagefolder(dataset), dataset.validation)
    else:
        splits = _call_function(dataset)
    if dataset.num_classes not in {None, splits.num_classes}:
        raise DatasetError(
            f"dataset.num_classes: {dataset.name} has {splits.num_classes} classes, the study says"
            f" {dataset.num_classes}. Leave num_classes out, or correct it."
        )
    _check_classes(splits, dataset.name)
    return splits if dataset.normalize is None else replace(splits, normalize=dataset.normalize)


def shared_splits(dataset: Dataset) -> Splits:
    """Return what `load_splits` does, from memory where it was loaded before and its files have not changed.

    Raises:
        DatasetError: See `load_splits`.
    """
    check_dataset(dataset)
    with _LOADING:
        return _load_splits(dataset, listing_digest(dataset) if dataset.name.startswith("imagefolder:") else "")


@lru_cache(maxsize=2)
def _load_splits(dataset: Dataset, stamp: str) -> Splits:  # noqa: ARG001 (a changed folder is loaded anew)
    return load_splits(dataset)


def _check_classes(splits: Splits, name: str) -> None:
    """Refuse a class that nothing can be learned of; tell of one that is not looked at."""
    for part in ("train", "validation", "test"):
        images: Images = getattr(splits, part)
        counts_K = torch.bincount(images.labels_N, minlength=splits.num_classes).tolist()
        empty = [splits.class_names[label] for label, count in enumerate(counts_K) if count == 0]
        if not empty:
            continue
        named = f"{', '.join(map(repr, empty[:5]))}{', ...' if len(empty) > 5 else ''}"
        if part == "train":
            raise DatasetError(
                f"dataset {name}: no training image is left of class {named}. Add some, remove the class, or take fewer"
                " for validation."
            )
        progress.message(f"dataset {name}: the {part} images show nothing of class {named}: its figures are unknown.")


def check_dataset(dataset: Dataset) -> None:
    """Check what can be told of a dataset without reading, downloading or calling anything.

    Raises:
        DatasetError: It is unknown, its folders are absent, or its function is.
    """
    kind, _, rest = dataset.name.partition(":")
    if kind == "python" and rest:
        resolve(dataset.name, DatasetError)
    elif kind == "imagefolder" and rest:
        find_folders(dataset)
    elif dataset.name not in _READERS:
        raise DatasetError(
            f"dataset: there is no {dataset.name!r}.{did_you_mean(dataset.name, [*_READERS, *_FORMS])}"
            f" Expected one of {', '.join([*_READERS, *_FORMS])}."
        )
    if dataset.skip_unreadable and kind != "imagefolder":
        raise DatasetError(f"dataset.skip_unreadable: {dataset.name} has no files to skip. Remove it.")


def known_input_size(dataset: Dataset) -> int | None:
    """Return the images' height and width in pixels, where that can be told before they are read."""
    return dataset.input_size or (DEFAULT_INPUT_SIZE if dataset.name in _READERS else None)


def _call_function(dataset: Dataset) -> Splits:
    where = f"dataset {dataset.name}"
    splits = resolve(dataset.name, DatasetError)()
    if not isinstance(splits, Splits):
        raise DatasetError(f"{where}: the function must return secateur.datasets.Splits, got {type(splits).__name__}.")
    if dataset.validation is not None:
        raise DatasetError(f"{where}: the function divides the images itself. Leave dataset.validation out.")
    for name in ("train", "validation", "test"):
        _check(getattr(splits, name), splits, f"{where}: {name}")
    if dataset.input_size not in {None, splits.input_size}:
        raise DatasetError(
            f"{where}: the images are {splits.input_size} pixels wide, the study says input_size: {dataset.input_size}."
        )
    _check_disjoint(splits, where)
    return splits


def _check(images: ImageSet, splits: Splits, where: str) -> None:
    got = images.images_NHWC
    size = splits.input_size
    if got.dtype != torch.uint8 or len(got) == 0 or got.shape[1:] != (size, size, 3):
        raise DatasetError(
            f"{where}: images_NHWC must be uint8 of N x {size} x {size} x 3, got {got.dtype} of"
            f" {' x '.join(map(str, got.shape))}."
        )
    labels = images.labels_N
    if labels.dtype != torch.int64 or labels.shape != got.shape[:1]:
        raise DatasetError(
            f"{where}: labels_N must be {len(got)} int64, got {labels.dtype} of {' x '.join(map(str, labels.shape))}."
        )
    if labels.min() < 0 or labels.max() >= splits.num_classes:
        raise DatasetError(
            f"{where}: labels must be in 0 to {splits.num_classes - 1} (there are {splits.num_classes} class_names),"
            f" got {int(labels.min())} to {int(labels.max())}."
        )


def _check_disjoint(splits: Splits, where: str) -> None:
    """Check that no image is in two parts, pixel for pixel; what we divide ourselves cannot be."""
    seen: dict[bytes, str] = {}
    for name in ("train", "validation", "test"):
        images: ImageSet = getattr(splits, name)
        for index, image_HWC in enumerate(images.images_NHWC.numpy()):
            digest = hashlib.sha256(image_HWC.tobytes()).digest()
            if (other := seen.setdefault(digest, name)) != name:
                raise DatasetError(
                    f"{where}: image {index} of {name} is in {other}, too: what is tested must not have been seen."
                    " Divide the images so that each is in one part."
                )
