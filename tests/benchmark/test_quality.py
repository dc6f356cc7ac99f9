"""Accuracy, confusion matrix, sensitivity and specificity, against a table made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from secateur.benchmark import assess
from secateur.errors import InputError

LABELS_N = np.array([0, 0, 0, 1, 1, 2])
PREDICTED_N = np.array([0, 0, 1, 1, 0, 2])


def one_hot(classes_N: np.ndarray, num_classes: int) -> np.ndarray:
    return np.eye(num_classes, dtype=np.float32)[classes_N]


def test_against_a_table_made_by_hand() -> None:
    quality = assess(one_hot(PREDICTED_N, 4), LABELS_N)
    assert quality.confusion == ((2, 1, 0, 0), (1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 0))
    assert quality.sensitivity == (2 / 3, 1 / 2, 1.0, None)  # no image of the last class
    assert quality.specificity == (2 / 3, 3 / 4, 1.0, 1.0)
    assert quality.top1 == pytest.approx(100 * 4 / 6)
    assert quality.top5 == 100.0
    assert quality.num_images == 6


def test_a_class_that_every_image_has_tells_no_specificity() -> None:
    assert assess(one_hot(np.array([0, 1]), 2), np.array([0, 0])).specificity == (None, 1 / 2)


def test_top5_counts_the_five_largest_and_lower_classes_first() -> None:
    falling_NK = -np.arange(7, dtype=np.float32)[None].repeat(7, axis=0)
    assert assess(falling_NK, np.arange(7)).top5 == pytest.approx(100 * 5 / 7)
    assert assess(np.zeros((7, 7), np.float32), np.arange(7)).top1 == pytest.approx(100 / 7)


def test_another_datasets_labels_are_refused() -> None:
    with pytest.raises(InputError, match=r"The network has 3 outputs, but the dataset a class 7"):
        assess(np.zeros((1, 3), np.float32), np.array([7]))
