"""From a study's `dataset` section to images."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace

import torch

from secateur.config import Dataset
from secateur.datasets.imagefolder import find_folders, read_imagefolder
from secateur.datasets.splits import DEFAULT_INPUT_SIZE, ImageSet, Parts, Splits, split
from secateur.errors import DatasetError, did_you_mean
from secateur.references import resolve

# By name, imported where they are asked for: scikit-learn and torchvision take seconds.
_READERS = {
    "digits": ("secateur.datasets.digits", "read_digits"),
    "cifar10": ("secateur.datasets.cifar", "read_cifar"),
    "cifar100": ("secateur.datasets.cifar", "read_cifar"),
}
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
    return splits if dataset.normalize is None else replace(splits, normalize=dataset.normalize)


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
