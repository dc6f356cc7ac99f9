"""What a network's outputs on the device are worth: accuracy, and which classes are taken for which.

Shapes: N images, K classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from secateur.errors import InputError
from secateur.results import DeviceQuality


def assess(logits_NK: npt.NDArray[np.float32], labels_N: npt.NDArray[np.int64]) -> DeviceQuality:
    """Compare outputs with the truth.

    Args:
        logits_NK: One row for each image; of equal logits, the class with the lower number comes first.
        labels_N: Classes from 0 to K - 1.

    Raises:
        InputError: There are labels that the network has no output for.
    """
    num_classes = logits_NK.shape[1]
    if labels_N.max() >= num_classes:
        raise InputError(
            f"The network has {num_classes} outputs, but the dataset a class {labels_N.max()}: it is another dataset's."
        )
    best_NK = np.argsort(-logits_NK, axis=1, kind="stable")
    is_right_NK = best_NK == labels_N[:, None]
    confusion_KK = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion_KK, (labels_N, best_NK[:, 0]), 1)
    right_K = np.diag(confusion_KK)
    positive_K = confusion_KK.sum(axis=1)
    negative_K = len(labels_N) - positive_K
    wrongly_K = confusion_KK.sum(axis=0) - right_K
    return DeviceQuality(
        top1=float(is_right_NK[:, 0].mean() * 100),
        top5=float(is_right_NK[:, :5].any(axis=1).mean() * 100),
        num_images=len(labels_N),
        confusion=tuple(tuple(row) for row in confusion_KK.tolist()),
        sensitivity=_shares(right_K, positive_K),
        specificity=_shares(negative_K - wrongly_K, negative_K),
    )


def _shares(parts_K: npt.NDArray[np.int64], wholes_K: npt.NDArray[np.int64]) -> tuple[float | None, ...]:
    return tuple(
        part / whole if whole else None for part, whole in zip(parts_K.tolist(), wholes_K.tolist(), strict=True)
    )
