"""What a network's outputs on the device are worth: accuracy, and which classes are taken for which.

Shapes: N images, K classes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from secateur.confusion import as_rows, confusion_matrix, sensitivity, specificity
from secateur.results import DeviceQuality


def assess(logits_NK: npt.NDArray[np.float32], labels_N: npt.NDArray[np.int64]) -> DeviceQuality:
    """Compare outputs with the truth.

    Args:
        logits_NK: One row for each image; of equal logits, the class with the lower number comes first.
        labels_N: Classes from 0 to K - 1.

    Raises:
        InputError: There are labels that the network has no output for.
    """
    best_NK = np.argsort(-logits_NK, axis=1, kind="stable")
    confusion_KK = confusion_matrix(labels_N, best_NK[:, 0], logits_NK.shape[1])
    is_right_NK = best_NK == labels_N[:, None]
    return DeviceQuality(
        top1=float(is_right_NK[:, 0].mean() * 100),
        top5=float(is_right_NK[:, :5].any(axis=1).mean() * 100),
        num_images=len(labels_N),
        confusion=as_rows(confusion_KK),
        sensitivity=sensitivity(confusion_KK),
        specificity=specificity(confusion_KK),
    )
