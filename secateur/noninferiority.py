"""Is a network no worse than another by more than a margin? Of top1, on the same images, over several seeds.

Shapes: S seeds, N images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from secateur.championship import Difference

LEVEL = 0.05
"""Two-sided: an inferior network passes in at most 2.5 % of contests, as regulators of medicines ask (CPMP 2000)."""


def top1_difference(
    hits_SN: npt.NDArray[np.bool_], reference_N: npt.NDArray[np.bool_], *, num_comparisons: int = 1
) -> Difference:
    """Estimate how much better a way to make networks is than one given network, in points of top1.

    Seeds and images are both samples. The variance over images is that of the paired differences (a hard image is hard
    for both), the variance over seeds that of their means; they add up, with Satterthwaite's degrees of freedom (1946,
    An approximate distribution of estimates of variance components). What seeds and images have in common is counted
    twice, which widens the interval. Where no image tells the networks apart, that may be for want of images: so the
    variance over images is of two images more, half of one each way (Agresti and Min 2005, Simple improved confidence
    intervals for comparing matched proportions).

    Args:
        hits_SN: Whether the network of each seed is right about each image; at least two seeds and two images.
        reference_N: Whether the given network is.
        num_comparisons: The interval is widened so that of so many, all are right at once (Bonferroni's inequality).
    """
    num_seeds, num_images = hits_SN.shape
    differences_N = hits_SN.mean(axis=0) - reference_N
    means_S = hits_SN.mean(axis=1)
    padded = num_images + 2
    spread = (float((differences_N**2).sum()) + 1) / padded - (float(differences_N.sum()) / padded) ** 2
    variances = np.array([spread / padded, means_S.var(ddof=1) / num_seeds])
    degrees = variances.sum() ** 2 / (variances**2 / np.array([num_images - 1, num_seeds - 1])).sum()
    confidence = 1 - LEVEL / num_comparisons
    half_width = 100 * float(stats.t.ppf((1 + confidence) / 2, degrees) * np.sqrt(variances.sum()))
    estimate = 100 * float(differences_N.mean())
    return Difference(estimate=estimate, low=estimate - half_width, high=estimate + half_width, confidence=confidence)
