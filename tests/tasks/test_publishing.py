"""What a sweep shows of itself."""

from __future__ import annotations

import pytest

from tasks.publishing import _is_model_due


@pytest.mark.parametrize("batch", [1, 4, 8])
def test_the_model_is_asked_whenever_the_trials_have_doubled(batch: int) -> None:
    asked = [num for num in range(batch, 257, batch) if _is_model_due(num, batch)]
    assert asked == [24, 48, 96, 192]
