"""Sensitivity, specificity and calibration, against tables made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from secateur.confusion import calibration_error, confusion_matrix, lowest_percent, sensitivity, specificity
from secateur.errors import InputError

LABELS_N, PREDICTED_N = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])


def test_against_a_table_made_by_hand() -> None:
    confusion_KK = confusion_matrix(LABELS_N, PREDICTED_N, 4)
    assert confusion_KK.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert sensitivity(confusion_KK) == (2 / 3, 1 / 2, 1.0, None)  # no image of the last class
    assert specificity(confusion_KK) == (2 / 3, 3 / 4, 1.0, 1.0)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_named(label: int) -> None:
    with pytest.raises(InputError, match=f"has 3 outputs, but the dataset a class {label}: it is another dataset's"):
        confusion_matrix(np.array([0, label]), np.array([0, 0]), 3)


def test_the_lowest_share_is_that_of_a_class_with_images() -> None:
    assert lowest_percent((0.9, None, 0.25)) == 25.0
    assert lowest_percent((None,)) is lowest_percent(()) is None


@pytest.mark.parametrize(
    ("confidence", "is_right", "error"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0, 1.0], [True, False], 0.5),
        ([0.75, 0.75, 0.75, 0.75], [True, True, True, False], 0.0),
        ([0.61, 0.66, 0.95], [True, False, True], (0.27 + 0.05) / 3),  # 0.61 and 0.66 share the bin (0.6, 0.667]
        ([0.59, 0.61], [True, False], (0.41 + 0.61) / 2),  # and these do not share one
        ([0.0], [False], 0.0),
    ],
    ids=["sure and right", "too sure", "calibrated", "one bin", "two bins", "zero"],
)
def test_the_calibration_error_by_hand(confidence: list[float], is_right: list[bool], error: float) -> None:
    assert calibration_error(np.array(confidence), np.array(is_right)) == pytest.approx(error)
