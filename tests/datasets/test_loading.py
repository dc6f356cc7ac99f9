from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from secateur.config import Dataset, Normalize
from secateur.datasets import data_identity, load_splits
from secateur.errors import DatasetError

MODULE = """
import torch
from secateur.config import Normalize
from secateur.datasets import ImageSet, Splits

def images(dtype=torch.uint8, size=8, labels=(0, 1), label_dtype=torch.int64, value=0):
    pixels = torch.full((len(labels), size, size, 3), value, dtype=dtype)
    return ImageSet(images_NHWC=pixels, labels_N=torch.tensor(labels, dtype=label_dtype))

def splits(**others):
    half = Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    parts = {name: images(value=i) for i, name in enumerate(("train", "validation", "test"))} | others
    return Splits(class_names=("no", "yes"), normalize=half, **parts)

def floats(): return splits(validation=images(dtype=torch.float32))
def sizes(): return splits(test=images(size=9))
def none(): return splits(test=images(labels=()))
def labels(): return splits(test=images(labels=(0, 2)))
def label_type(): return splits(test=images(label_dtype=torch.int32))
def leaking(): return splits(test=images(value=1))
def one_class(): return splits(train=images(labels=(1, 1)))
def nothing(): return None
"""


@pytest.fixture
def my_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_data.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_data", raising=False)


def test_digits_are_real_images_split_for_good() -> None:
    splits = load_splits(Dataset(name="digits"))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1250, 250, 297)
    assert (splits.num_classes, splits.input_size, splits.is_flippable) == (10, 32, False)
    for part in (splits.train, splits.validation, splits.test):
        assert part.images_NHWC.shape[1:] == (32, 32, 3)
        assert part.images_NHWC.dtype == torch.uint8
        counts = part.labels_N.bincount(minlength=10)
        assert counts.max() - counts.min() <= 0.05 * len(part)
    assert data_identity(splits) == data_identity(load_splits(Dataset(name="digits")))


def test_digits_are_normalised_by_their_own_statistics() -> None:
    splits = load_splits(Dataset(name="digits", validation=1))
    pixels = splits.train.images_NHWC[..., 0].double() / 255
    assert splits.normalize.mean[0] == pytest.approx(pixels.mean().item(), abs=1e-3)
    assert splits.normalize.std[0] == pytest.approx(pixels.std().item(), abs=1e-3)


def test_size_and_normalisation_can_be_chosen() -> None:
    normalize = Normalize(mean=(0, 0, 0), std=(1, 1, 1))
    splits = load_splits(Dataset(name="digits", input_size=16, normalize=normalize, num_classes=10))
    assert splits.input_size == 16
    assert splits.normalize == normalize


def test_a_wrong_number_of_classes_is_refused() -> None:
    with pytest.raises(DatasetError, match="digits has 10 classes, the study says 100"):
        load_splits(Dataset(name="digits", num_classes=100))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cifar1O", "Did you mean 'cifar10'"),
        ("imagefolder", "Did you mean 'imagefolder:PATH'"),
        ("imagefolder:", "Did you mean 'imagefolder:PATH'"),
        ("digits:8", "Did you mean 'digits'"),
        ("svhn", "Expected one of digits, cifar10, cifar100, imagefolder:PATH, python:package.module:function"),
    ],
)
def test_an_unknown_dataset_is_refused(name: str, hint: str) -> None:
    with pytest.raises(DatasetError, match=f"there is no '{name}'.*{hint}"):
        load_splits(Dataset(name=name))


@pytest.mark.usefixtures("my_data")
def test_a_function_may_bring_its_own_images() -> None:
    splits = load_splits(Dataset(name="python:my_data:splits", num_classes=2, input_size=8))
    assert splits.class_names == ("no", "yes")


@pytest.mark.usefixtures("my_data")
@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        (Dataset(name="python:my_dota:splits"), "No module named 'my_dota'"),
        (Dataset(name="python:my_data:split"), "has no 'split'. Did you mean 'splits'"),
        (Dataset(name="python:my_data"), "expected 'python:package.module:function'"),
        (Dataset(name="python:my_data:nothing"), "must return secateur.datasets.Splits, got NoneType"),
        (Dataset(name="python:my_data:splits", validation=1), "Leave dataset.validation out"),
        (Dataset(name="python:my_data:splits", input_size=32), "8 pixels wide, the study says input_size: 32"),
        (Dataset(name="python:my_data:floats"), "validation: images_NHWC must be uint8.*got torch.float32"),
        (Dataset(name="python:my_data:sizes"), "test: images_NHWC must be uint8 of N x 8 x 8 x 3, got .*2 x 9 x 9 x 3"),
        (Dataset(name="python:my_data:none"), "test: images_NHWC must be .* got torch.uint8 of 0 x"),
        (Dataset(name="python:my_data:labels"), "test: labels must be in 0 to 1 .*got 0 to 2"),
        (Dataset(name="python:my_data:leaking"), "image 0 of test is in validation, too: .* must not have been seen"),
        (Dataset(name="python:my_data:one_class"), "no training image is left of class 'no'"),
        (Dataset(name="digits", skip_unreadable=True), "dataset.skip_unreadable: digits has no files to skip"),
        (Dataset(name="python:my_data:label_type"), "test: labels_N must be 2 int64, got torch.int32"),
    ],
    ids=lambda value: value.name if isinstance(value, Dataset) else "",
)
def test_a_function_that_brings_something_else_is_refused(dataset: Dataset, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        load_splits(dataset)
