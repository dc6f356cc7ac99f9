"""What a study will take is estimated from all that it will do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from secateur.steps import estimate as module
from tests.factories import make_latency
from tests.fakes import MemoryStore
from tests.steps.test_bundle import TRAINING, make_study


@dataclass
class Clock:
    """Stands still but for the work that costs something."""

    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now

    def costing(self, seconds: Callable[..., float], result: Any = None) -> Callable[..., Any]:
        def work(*arguments: Any, **named: Any) -> Any:
            self.now += seconds(*arguments, **named)
            return result

        return work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock by which 48 images take 10 s to train on, a teacher adds 6 s, and recalibration takes 3 s."""
    clock = Clock()
    training = clock.costing(lambda *_, teacher, **__: 10 if teacher is None else 16)
    fakes = {
        "time": clock,
        "train": training,
        "recalibrate_bn": clock.costing(lambda *_, **__: 3),
        "evaluate": clock.costing(lambda *_, **__: 1),
        "export_onnx": clock.costing(lambda *_, **__: 0, b"onnx"),
        "benchmark": SimpleNamespace(measure=clock.costing(lambda *_, **__: 5, (make_latency(1.0),))),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(module, name, fake)
    return clock


@pytest.mark.usefixtures("clock")
def test_recalibration_retraining_and_teacher_count(tmp_path: Path) -> None:
    def trial_s(**training: Any) -> float:
        study = make_study(tmp_path, training={**TRAINING, **training})
        return module.estimate(study, MemoryStore()).trial_s

    bare = trial_s(epochs=0, recalibration_images=0)
    assert bare == pytest.approx(1 + 5, abs=1)
    assert trial_s(epochs=0) - bare == pytest.approx(3 + 1)
    assert trial_s(recalibration_images=0, distillation=False) - bare == pytest.approx(2 * (10 + 1))
    assert trial_s(recalibration_images=0) - bare == pytest.approx(2 * (16 + 1))
