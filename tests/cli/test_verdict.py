"""What a latency ratio says, in a sentence."""

from __future__ import annotations

import pytest

from secateur.cli.benchmark import _beside, verdict
from secateur.results import Interval


@pytest.mark.parametrize(
    ("ratio", "is_noisy", "expected"),
    [
        ((0.787, 0.775, 0.8), False, "B is 1.27 times as fast as A, 1.25 to 1.29."),
        ((1.1, 1.05, 1.2), False, "B takes 1.10 times as long as A, 1.05 to 1.20."),
        ((0.995, 0.98, 1.01), False, "B and A cannot be told apart: 1.01 times as fast, 0.99 to 1.02."),
        (
            (0.5, 0.4, 0.625),
            True,
            "B is 2.00 times as fast as A, 1.60 to 2.50 (noisy: the interval is wider than the profile asks).",
        ),
    ],
    ids=["faster", "slower", "equal", "noisy"],
)
def test_verdict(ratio: tuple[float, float, float], is_noisy: bool, expected: str) -> None:
    estimate, low, high = ratio
    interval = Interval(estimate=estimate, low=low, high=high, standard_error=0.01)
    assert verdict("B", "A", interval, is_noisy=is_noisy) == expected


def test_what_ran_beside_is_told_where_it_is_worth_a_word() -> None:
    beside = {"ours_share": 0.31, "others_share": 0.02, "stolen_share": 0.04, "busiest": "python (71): 30%"}
    assert _beside({"beside": beside}) == (
        "Beside it, of the host's time, other work of ours 31%, other machines 4% (busiest: python (71): 30%)."
        " Pairing takes most of that out of the ratio."
    )
    assert _beside({"beside": {"ours_share": 0.0, "others_share": 0.03, "stolen_share": 0.0}}) is None
    assert _beside({"beside": {}}) is None
