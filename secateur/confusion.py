"""Which classes are taken for which, and how sure a network is of it; numpy alone, for device and trainer alike.

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from secateur.errors import InputError

NUM_BINS = 15
"""Of the confidence, as Guo et al. count."""


def confusion_matrix(
    labels_N: npt.NDArray[np.int64], predicted_N: npt.NDArray[np.int64], num_classes: int
) -> npt.NDArray[np.int64]:
    """Count images of class i (row) that were taken for class j (column).

    Args:
        labels_N: The truth.
        predicted_N: Classes from 0 to K - 1.
        num_classes: K, the network's outputs.

    Raises:
        InputError: There are labels that the network has no output for.
    """
    if labels_N.min() < 0 or labels_N.max() >= num_classes:
        wrong = labels_N[(labels_N < 0) | (labels_N >= num_classes)][0]
        raise InputError(
            f"The network has {num_classes} outputs, but the dataset a class {wrong}: it is another dataset's."
        )
    cells = np.bincount(labels_N * num_classes + predicted_N, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def sensitivity(confusion_KK: npt.NDArray[np.int64]) -> tuple[float | None, ...]:
    """Return for each class the share of its images that were found; None of no images."""
    return _shares(np.diag(confusion_KK), confusion_KK.sum(axis=1))


def specificity(confusion_KK: npt.NDArray[np.int64]) -> tuple[float | None, ...]:
    """Return for each class the share of the other images that were not taken for it; None of no images."""
    right_K = np.diag(confusion_KK)
    negative_K = confusion_KK.sum() - confusion_KK.sum(axis=1)
    wrongly_K = confusion_KK.sum(axis=0) - right_K
    return _shares(negative_K - wrongly_K, negative_K)


def lowest_percent(shares: Sequence[float | None]) -> float | None:
    """Return the lowest known share, in percent."""
    known = [share for share in shares if share is not None]
    return 100 * min(known) if known else None


def as_rows(confusion_KK: npt.NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """Return the matrix as a record holds it."""
    return tuple(tuple(row) for row in confusion_KK.tolist())


def calibration_error(confidence_N: npt.NDArray[np.float64], is_right_N: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error (Guo et al. 2017, On calibration of modern neural networks, eq. 3).

    Images are binned by confidence, 15 bins of equal width, closed on the right; the error is the mean over images of
    the distance between their bin's accuracy and its mean confidence.

    Args:
        confidence_N: Probability of the predicted class, from 0 to 1; at least one image.
        is_right_N: Whether the prediction is right.

    Returns:
        From 0 to 1.
    """
    bins_N = np.clip(np.ceil(confidence_N * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    surplus = np.bincount(bins_N, weights=confidence_N - is_right_N, minlength=NUM_BINS)
    return float(np.abs(surplus).sum() / len(confidence_N))


def _shares(parts_K: npt.NDArray[np.int64], wholes_K: npt.NDArray[np.int64]) -> tuple[float | None, ...]:
    pairs = zip(parts_K.tolist(), wholes_K.tolist(), strict=True)
    return tuple(part / whole if whole else None for part, whole in pairs)
