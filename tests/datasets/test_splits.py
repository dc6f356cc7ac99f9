from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secateur.config import FromTest, Normalize
from secateur.datasets import ImageSet, Splits, data_identity, halve_test
from secateur.datasets.splits import Parts, split, stratified_sample
from secateur.errors import DatasetError

HALF = Normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
labels = hnp.arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 4))


def numbered(labels_N: np.ndarray, first: int = 0) -> ImageSet:
    """Return images of 1 x 1 pixels whose first two channels count them."""
    numbers = np.arange(first, first + len(labels_N))
    pixels = np.stack([numbers // 256, numbers % 256, 0 * numbers], axis=1).astype(np.uint8)
    return ImageSet(images_NHWC=torch.from_numpy(pixels[:, None, None, :]), labels_N=torch.from_numpy(labels_N))


def numbers_of(images: ImageSet) -> list[int]:
    pixels = images.images_NHWC.long()
    return (pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 0, 1]).tolist()


def parts_of(train_N: np.ndarray, test_N: np.ndarray, numbers_N: np.ndarray | None = None) -> Parts:
    return Parts(
        train=numbered(train_N),
        test=numbered(test_N, first=len(train_N)),
        test_numbers_N=np.arange(len(test_N)) if numbers_N is None else numbers_N,
        class_names=("a", "b", "c", "d", "e"),
        normalize=HALF,
    )


def splits_with(labels_N: np.ndarray) -> Splits:
    """Return splits of which the test part has these labels."""
    others = numbered(np.array([0]), first=1000)
    names = ("a", "b", "c", "d", "e")
    return Splits(train=others, validation=others, test=numbered(labels_N), class_names=names, normalize=HALF)


@given(test_N=labels)
def test_the_test_part_is_halved_class_by_class(test_N: np.ndarray) -> None:
    judging, published = halve_test(splits_with(test_N))
    assert sorted([*numbers_of(judging), *numbers_of(published)]) == list(range(len(test_N)))
    assert len(judging) == len(test_N) // 2
    for label in range(5):
        counts = [int((part.labels_N == label).sum()) for part in (judging, published)]
        assert abs(counts[0] - counts[1]) <= 2
    assert numbers_of(halve_test(splits_with(test_N))[0]) == numbers_of(judging)


def test_one_test_image_cannot_be_halved() -> None:
    with pytest.raises(DatasetError, match=r"the test part has 1 image\(s\): one half judges finalists"):
        halve_test(splits_with(np.array([0])))


@given(train_N=labels, test_N=labels, data=st.data())
def test_carving_is_a_deterministic_partition(train_N: np.ndarray, test_N: np.ndarray, data: st.DataObject) -> None:
    num_validation = data.draw(st.none() | st.integers(1, len(train_N) - 1))
    parts = parts_of(train_N, test_N)
    splits, again = split(parts, num_validation), split(parts, num_validation)

    everything = [*numbers_of(splits.train), *numbers_of(splits.validation), *numbers_of(splits.test)]
    assert sorted(everything) == list(range(len(train_N) + len(test_N)))
    assert numbers_of(splits.test) == numbers_of(parts.test)
    assert len(splits.validation) == (num_validation or max(1, len(train_N) // 6))
    assert data_identity(splits) == data_identity(again)


@given(train_N=labels, test_N=labels, files=st.sampled_from(["even", "odd"]))
def test_dividing_the_test_part_is_a_partition_by_number(
    train_N: np.ndarray, test_N: np.ndarray, files: Literal["even", "odd"]
) -> None:
    splits = split(parts_of(train_N, test_N), FromTest(files=files))

    expected = [len(train_N) + i for i in range(len(test_N)) if (i % 2 == 0) == (files == "even")]
    assert numbers_of(splits.validation) == expected
    assert sorted([*numbers_of(splits.validation), *numbers_of(splits.test)]) == [
        len(train_N) + i for i in range(len(test_N))
    ]
    assert numbers_of(splits.train) == list(range(len(train_N)))


@given(num_classes=st.integers(1, 8), size=st.integers(1, 20), data=st.data())
def test_a_sample_of_equal_classes_is_even(num_classes: int, size: int, data: st.DataObject) -> None:
    labels_N = np.array(data.draw(st.permutations([*range(num_classes)] * size)))
    num_images = data.draw(st.integers(0, len(labels_N)))
    counts = np.bincount(labels_N[stratified_sample(labels_N, num_images)], minlength=num_classes)
    assert counts.sum() == num_images
    assert counts.max() - counts.min() <= 1


def test_a_sample_keeps_the_proportions_of_unequal_classes() -> None:
    labels_N = np.repeat([0, 1, 2], [100, 50, 10])
    assert np.bincount(labels_N[stratified_sample(labels_N, 16)]).tolist() == [10, 5, 1]


def test_the_sample_never_changes() -> None:
    """RandomState(0) permutes 0 to 19 into 18, 1, 19, 8, 10, 17, ...: the first three even and odd ones."""
    labels_N = np.arange(20) % 2
    assert np.flatnonzero(stratified_sample(labels_N, 6)).tolist() == [1, 8, 10, 17, 18, 19]


@pytest.mark.parametrize("num_validation", [12, 13])
def test_validation_must_leave_something_to_train_on(num_validation: int) -> None:
    parts = parts_of(np.zeros(12, dtype=np.int64), np.zeros(2, dtype=np.int64))
    with pytest.raises(DatasetError, match=f"training part has 12 images.*got {num_validation}"):
        split(parts, num_validation)


@pytest.mark.parametrize(("numbers", "only"), [([2, 4, 8], "even"), ([1, 3, 5], "odd")])
@pytest.mark.parametrize("files", ["even", "odd"])
def test_a_test_part_of_one_parity_cannot_be_divided(numbers: list[int], only: str, files: str) -> None:
    three = np.zeros(3, dtype=np.int64)
    with pytest.raises(DatasetError, match=f"all 3 numbers are {only}"):
        split(parts_of(three, three, np.array(numbers)), FromTest(files=files))  # type: ignore[arg-type]


def test_the_identity_tells_pixels_labels_split_and_normalisation_apart() -> None:
    train_N, test_N = np.arange(12) % 5, np.arange(6) % 5
    base = parts_of(train_N, test_N)
    changed = base.train.images_NHWC.clone()
    changed[3, 0, 0, 2] = 1
    variants = [
        split(base, 2),
        split(base, 3),
        split(base, FromTest(files="even")),
        split(base, FromTest(files="odd")),
        split(parts_of((train_N + 1) % 5, test_N), 2),
        split(Parts(**{**vars(base), "train": ImageSet(images_NHWC=changed, labels_N=base.train.labels_N)}), 2),
        split(Parts(**{**vars(base), "normalize": Normalize(mean=(0, 0, 0), std=(1, 1, 1))}), 2),
    ]
    assert len({data_identity(splits) for splits in variants}) == len(variants)


def test_resizing_keeps_flat_images_flat() -> None:
    images = ImageSet(images_NHWC=torch.full((3, 5, 7, 3), 77, dtype=torch.uint8), labels_N=torch.arange(3))
    resized = images.resized(4)
    assert resized.images_NHWC.shape == (3, 4, 4, 3)
    assert resized.images_NHWC.unique().tolist() == [77]
    assert resized.resized(4) is resized
