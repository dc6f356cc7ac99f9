"""What is compared after a night."""

from __future__ import annotations

import asyncio

from secateur.store import StudyFiles
from tasks.drifts import compare_nights
from tests.fakes import MemoryStore
from tests.test_drift import make_night


def test_a_place_that_failed_does_not_silence_the_others() -> None:
    files = StudyFiles(MemoryStore(), "demo")
    for number in range(4):
        files.write_night(f"2026-01-0{number + 1}", make_night(number))
    files.write_night("2026-01-05", make_night(4, reference_ms=9.0))
    drifts = asyncio.run(compare_nights.fn(files, "2026-01-05", ["absent", "edge"]))
    assert [(drift.place, drift.has_changed) for drift in drifts] == [("edge", True)]
    assert asyncio.run(compare_nights.fn(files, "2026-01-06", ["absent", "edge"])) == []
