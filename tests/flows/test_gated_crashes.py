"""A gated sweep that is killed, at any moment, and started again; in a file of its own, to run beside the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.interruptions import (
    Reference,
    begin,
    files_of,
    finish_and_check,
    kill_at_every_event,
    run_and_check,
    undisturbed,
)
from tests.runs import Runs


@pytest.fixture(scope="module")
def gated(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Its trials are exported, measured and judged before they are trained."""
    return undisturbed(runs, begin(tmp_path_factory.mktemp("gated"), gate=True))


@pytest.mark.slow
def test_a_gated_sweep_that_is_killed_after_measuring_gets_there(runs: Runs, gated: Reference, tmp_path: Path) -> None:
    folder = begin(tmp_path, gate=True)
    _, before_training, _ = [i for i, event in enumerate(gated.events) if event == "after dispatch measure"]
    run_and_check(runs, folder, kill_at=before_training + 1)  # or near it: a lease is renewed now and then
    assert not any(trial.is_finished for trial in files_of(folder).trials())
    finish_and_check(runs, folder, gated)
    assert all(trial.gate is not None and trial.gate.can_win for trial in files_of(folder).trials())


@pytest.mark.slow
def test_a_gated_sweep_can_be_killed_at_every_event(runs: Runs, gated: Reference, tmp_path: Path) -> None:
    kill_at_every_event(runs, gated, tmp_path, gate=True)
