from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from demonstration_tables import detectable, difference, show

from tests.runs import ROOT


def runs_of(*top1: float) -> dict[str, Any]:
    return {str(seed): {"test_top1": value} for seed, value in enumerate(top1)}


def test_what_can_be_detected() -> None:
    # sqrt(2 / 5) * (2.306 + 0.889), from a table of Student's quantiles for 8 degrees of freedom
    assert detectable(1.0, 5) == pytest.approx(2.021, abs=1e-3)


def test_a_difference_has_an_interval() -> None:
    gained, finds = difference([88.0, 88.2, 88.4], [87.0, 87.2, 87.4])
    assert gained == "+1.00 [+0.55, +1.45]"
    assert finds == f"{detectable(0.2, 3):.2f}"
    assert difference([88.0], [87.0]) == ("+1.00", "-")
    # Welch's degrees of freedom: (0.04/3 + 0.02/2)^2 / ((0.04/3)^2/2 + (0.02/2)^2/1) = 2.882
    assert difference([88.0, 88.2, 88.4], [87.0, 87.2])[0] == "+1.10 [+0.60, +1.60]"


def test_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    ratios = {
        "off the shelf": {"estimate": 0.8},
        "resnet20_cifar": {"estimate": 0.4},
        "trial 3 for cpu": {"estimate": 0.4},
    }
    content = {
        "chosen": {"cpu": {"width": {"as accurate as off the shelf": "3", "as fast as resnet20_cifar": "3"}}},
        "trained": {
            "off the shelf": runs_of(88.0, 88.2),
            "resnet20_cifar": runs_of(86.0, 86.2),
            "trial 3 for cpu": runs_of(88.5, 88.7),
        },
        "measured": {"cpu": {"0": ratios, "1": ratios}},
    }
    show(content)
    told = capsys.readouterr().out
    assert "| trial 3 for cpu | 2 | 88.60 (0.141) | 0.400 (0.000) |" in told
    assert "| as accurate as off the shelf (trial 3) | width | cpu | +0.50 [-0.11, +1.11] |" in told
    assert "| as fast as resnet20_cifar (trial 3) | width | cpu | +2.50 [+1.89, +3.11] |" in told
    assert " | 2.00 |" in told


@pytest.mark.slow
def test_smoke_runs_and_is_not_run_again(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/demonstration.py"), str(tmp_path), "--smoke"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    told = [
        subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True) for _ in range(2)
    ]
    assert "as fast as resnet20_cifar" in told[0].stdout
    assert told[0].stdout.endswith(told[1].stdout[-500:])
    assert "trained" in told[0].stderr
    assert "trained" not in told[1].stderr
