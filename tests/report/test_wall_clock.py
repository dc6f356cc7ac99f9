"""Every second of a sweep, and what was saved."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.report.facts import gather
from secateur.report.wall_clock import BETWEEN, NOT_RUNNING, WAITING, account, gate_text, savings
from secateur.results import Gate, TrialRecord
from tests.factories import make_compressed, make_latency, make_record, make_results


def timed(label: int, begin: str, end: str, **changes: Any) -> TrialRecord:
    day = "2026-11-20T"
    return make_record(label, created_at=f"{day}{begin}+00:00", finished_at=f"{day}{end}+00:00", **changes)


def parts(*trials: TrialRecord) -> dict[str, float]:
    found = account(gather(make_results(trials, baselines={})))
    assert found is not None
    return found.parts


def test_what_no_phase_explains_is_waiting() -> None:
    found = parts(timed(0, "10:00:00", "10:01:00", seconds={"propose": 1.0, "train": 40.0, "measure": 15.0}))
    assert found == {"train": 40.0, "measure": 15.0, WAITING: 5.0}


def test_trials_at_once_share_the_time() -> None:
    work = {"train": 60.0, "measure": 20.0}
    results = make_results([timed(i, "10:00:00", "10:01:20", seconds=work) for i in range(2)], baselines={})
    found = account(gather(results))
    assert found is not None
    assert found.parts == {"train": 60.0, "measure": 20.0}
    assert found.total_s == 80.0
    assert found.overlap == 2.0


def test_time_between_trials_is_proposing_orchestration_or_no_sweep() -> None:
    found = parts(
        timed(0, "10:00:00", "10:01:00", seconds={"propose": 0.0, "train": 60.0}),
        timed(1, "10:01:05", "10:02:05", seconds={"propose": 3.0, "train": 60.0}),
        timed(2, "12:02:05", "12:03:05", seconds={"propose": 0.0, "train": 60.0}),
    )
    assert found == {NOT_RUNNING: 7200.0, "train": 180.0, "propose": 3.0, BETWEEN: 2.0}


def test_compressing_is_told_in_its_parts_where_nothing_was_reused() -> None:
    compressed = make_compressed(seconds={"prune": 2.0, "train": 30.0})
    fresh = timed(0, "10:00:00", "10:00:40", seconds={"compress": 35.0, "measure": 5.0}, compressed=compressed)
    assert parts(fresh) == {"train": 30.0, "measure": 5.0, "compress, the rest": 3.0, "prune": 2.0}
    reused = fresh.model_copy(update={"is_reused": True})
    assert parts(reused) == {"compress": 35.0, "measure": 5.0}


def test_the_parts_of_a_whole_study_add_up() -> None:
    found = account(gather(make_results()))
    assert found is not None
    assert found.total_s == pytest.approx(35.0)  # the factory's trials are all made at once
    assert account(gather(make_results([], baselines={}))) is None


def test_savings_count_what_was_not_done() -> None:
    trials = [
        make_record(0),  # 3 epochs of 10 s
        make_record(1, state="gated", compressed=make_compressed(num_epochs=0), gate=_gate(is_audit=False)),
        make_record(2, state="stopped", compressed=make_compressed(num_epochs=1)),
        make_record(3, is_reused=True, seconds={"compress": 0.7}, latency=make_latency(is_reused=True)),
    ]
    assert savings(gather(make_results(trials))) == [
        ("gated, never trained", ["1", "3", "30.0 s"]),
        ("training stopped early", ["1", "2", "20.0 s"]),
        ("network known from an equal candidate", ["1", "0", "31.0 s"]),
        ("latency known from an equal architecture", ["1", "0", "2.20 s"]),
    ]


def test_audits_say_how_often_the_gate_was_wrong() -> None:
    assert gate_text(gather(make_results([make_record(0)]))) == ""
    audited = [
        make_record(0, top1=89.5, gate=_gate(is_audit=True)),
        make_record(1, top1=89.4, gate=_gate(is_audit=True)),
    ]
    assert "wrong about 1 of 2 trials" in gate_text(gather(make_results(audited)))


def _gate(*, is_audit: bool) -> Gate:
    return Gate(optimistic_top1=89.0, can_win=False, is_audit=is_audit)
