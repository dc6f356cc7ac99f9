"""scikit-learn's handwritten digits: 1,797 real images that need no download."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from secateur.config import Dataset, Normalize
from secateur.datasets.splits import DEFAULT_INPUT_SIZE, ImageSet, Parts, stratified_sample

_NUM_TEST = 297
_NORMALIZE = Normalize(mean=(0.3055, 0.3055, 0.3055), std=(0.3238, 0.3238, 0.3238))
"""Of the 1,500 training images at 32 x 32."""


def read_digits(dataset: Dataset) -> Parts:
    """Read the 8 x 8 grey images, enlarged to `dataset.input_size` (32) and three equal channels.

    Source: the test set of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998).
    """
    digits = load_digits()
    grey_NHW = torch.from_numpy(np.round(digits.images * (255 / 16)).astype(np.uint8))  # the darkest is 16
    everything = ImageSet(
        images_NHWC=grey_NHW.unsqueeze(-1).expand(-1, -1, -1, 3),
        labels_N=torch.from_numpy(digits.target.astype(np.int64)),
    ).resized(dataset.input_size or DEFAULT_INPUT_SIZE)
    is_test_N = stratified_sample(everything.labels_N.numpy(), _NUM_TEST)
    return Parts(
        train=everything.select(~is_test_N),
        test=everything.select(is_test_N),
        test_numbers_N=np.arange(_NUM_TEST),
        class_names=tuple("0123456789"),
        normalize=_NORMALIZE,
        is_flippable=False,
    )
