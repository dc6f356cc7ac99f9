"""A network is called no worse only where that is shown."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secateur.noninferiority import top1_difference

hits = st.tuples(st.integers(2, 4), st.integers(2, 30)).flatmap(
    lambda shape: st.tuples(hnp.arrays(np.bool_, shape), hnp.arrays(np.bool_, shape[1]))
)


@given(hits)
def test_the_estimate_lies_inside_and_more_comparisons_widen(
    example: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
) -> None:
    hits_SN, reference_N = example
    one, three = (top1_difference(hits_SN, reference_N, num_comparisons=count) for count in (1, 3))
    assert one.estimate == pytest.approx(100 * (hits_SN.mean() - reference_N.mean()))
    assert three.low <= one.low <= one.estimate <= one.high <= three.high
    assert (one.confidence, three.confidence) == (0.95, pytest.approx(1 - 0.05 / 3))


def test_by_hand() -> None:
    # The seeds are right about 3 and 2 of 4 images, the reference about 2.
    hits_SN = np.array([[1, 1, 1, 0], [1, 0, 1, 0]], bool)
    reference_N = np.array([1, 0, 0, 1], bool)
    found = top1_difference(hits_SN, reference_N)
    assert found.estimate == pytest.approx(12.5)
    # Squares 0.25 + 1 + 1, and 1 for the two added images; the sum 0.5; of 6 images.
    over_images, over_seeds = 1e4 * (3.25 / 6 - (0.5 / 6) ** 2) / 6, (75.0 - 50.0) ** 2 / 2 / 2
    degrees = (over_images + over_seeds) ** 2 / (over_images**2 / 3 + over_seeds**2 / 1)
    assert 3 < degrees < 4
    # Student's 97.5 % quantile lies between those of 3 and of 4 degrees.
    half_width = (found.high - found.low) / 2
    assert 2.7764 < half_width / (over_images + over_seeds) ** 0.5 < 3.1825


@pytest.mark.parametrize(("num_images", "half_width"), [(12, 15.72), (98, 1.985), (9998, 0.0196)])
def test_few_images_do_not_show_that_networks_are_equal(num_images: int, half_width: float) -> None:
    reference_N = np.ones(num_images, bool)
    found = top1_difference(np.stack([reference_N] * 3), reference_N)
    assert found.estimate == 0.0
    # Student's quantile / the number of images and two more.
    assert (-found.low, found.high) == pytest.approx((half_width, half_width), rel=2e-3)


def test_a_network_that_is_worse_by_the_margin_rarely_passes() -> None:
    """At the very margin, at most 2.5 % are to pass; seeds and images vary in all of 400 contests."""
    rng, margin, passed = np.random.default_rng(0), 2.0, 0
    for _ in range(400):
        difficulty_N = rng.normal(0.0, 1.0, 2000)
        reference_N = difficulty_N + rng.normal(0, 0.3, 2000) < 1.2816  # 89.0 % right
        seeds = [1.2816 - 0.1046 + rng.normal(0, 0.02) for _ in range(3)]  # 87.0 %
        hits_SN = np.stack([difficulty_N + rng.normal(0, 0.3, 2000) < threshold for threshold in seeds])
        passed += top1_difference(hits_SN, reference_N).low >= -margin
    assert passed / 400 <= 0.05
