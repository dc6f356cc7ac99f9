"""The runner as a program: its protocol, its statistics, and what it needs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.benchmark import runner
from secateur.benchmark.client import RUNNER
from secateur.config import DeviceProfile

RATIOS = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=60).map(np.asarray)


def ask(request: dict[str, Any], program: Path = RUNNER) -> tuple[list[dict[str, Any]], str]:
    """Return the events of one request, and what the runner wrote to stderr."""
    process = subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(json.dumps({"timeout_s": 60.0, **request}) + "\n")
        process.stdin.flush()
        lines = process.stdout.readlines()
        return [json.loads(line) for line in lines], process.stderr.read()


def measure_request(profile: DeviceProfile, net: Path, tmp_path: Path) -> dict[str, Any]:
    files = {"reference": str(net), "models": [str(net)], "lock": str(tmp_path / "cpu.lock")}
    return {"command": "measure", "profile": profile.model_dump(), "seed": 0, "lock_timeout_s": 1.0, **files}


def test_measure_says_where_it_is_and_ends_with_one_result(
    profile: DeviceProfile, small_net: Path, tmp_path: Path
) -> None:
    events, _ = ask(measure_request(profile, small_net, tmp_path))
    assert [event["event"] for event in events] == ["progress"] * (len(events) - 1) + ["result"]
    phases = [event["phase"] for event in events[:-1]]
    assert phases[0] == f"compiling {small_net}"
    assert "measuring" in phases
    done = [event["done"] for event in events if "done" in event]
    assert done == sorted(done)
    assert 0 < done[0] <= done[-1] <= 1


def test_what_a_library_prints_does_not_reach_the_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openvino.py").write_text(
        "import os\nprint('hello from python', flush=True)\nos.write(1, b'hello from C\\n')\n"
        "class Core:\n    available_devices = ()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    events, stderr = ask({"command": "devices"})
    assert events == [{"event": "result", "devices": []}]
    assert "hello from python" in stderr
    assert "hello from C" in stderr


def test_absent_openvino_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('No module named openvino')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [event], _ = ask({"command": "devices"})
    assert event["kind"] == "runtime"
    assert "cannot import OpenVINO: No module named openvino. Install it: pip install" in event["message"]


def test_no_file_beside_the_runner_shadows_the_standard_library(tmp_path: Path) -> None:
    program = tmp_path / "runner.py"
    program.write_bytes(RUNNER.read_bytes())
    for name in ("random.py", "platform.py", "numpy.py"):
        (tmp_path / name).write_text("raise RuntimeError('shadowed')\n")
    [event], _ = ask({"command": "devices"}, program)
    assert "CPU" in [device["name"] for device in event["devices"]]


def test_it_ends_itself_when_it_is_silent_for_too_long() -> None:
    events, stderr = ask({"command": "devices", "timeout_s": 0.01})
    assert events == []
    assert "Timeout" in stderr
    assert "runner.py" in stderr


def test_it_needs_only_the_standard_library_numpy_and_openvino() -> None:
    tree = ast.parse(RUNNER.read_text(encoding="utf-8"), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names | {"numpy", "openvino"}


@settings(deadline=None)  # the machine may be busy
@given(RATIOS, st.integers(0, 1000))
def test_the_interval_holds_the_estimate_and_lies_within_the_values(values: np.ndarray, seed: int) -> None:
    interval = runner.bootstrap_median(values, np.random.default_rng(seed))
    assert values.min() <= interval["low"] <= interval["estimate"] <= interval["high"] <= values.max()
    assert interval["estimate"] == np.median(values)
    assert interval["standard_error"] >= 0


@settings(deadline=None)  # the machine may be busy
@given(RATIOS, st.sampled_from([2.0**power for power in range(-8, 9)]))
def test_the_interval_scales_with_the_values(values: np.ndarray, factor: float) -> None:
    interval = runner.bootstrap_median(values, np.random.default_rng(0))
    scaled = runner.bootstrap_median(values * factor, np.random.default_rng(0))
    assert scaled == pytest.approx({name: value * factor for name, value in interval.items()})


@pytest.mark.parametrize("num_values", [1, 2, 5, 20, 21])
def test_drawing_order_statistics_equals_resampling(num_values: int) -> None:
    values = np.random.default_rng(1).lognormal(size=num_values)
    drawn = [runner.bootstrap_median(values, np.random.default_rng(seed))["standard_error"] for seed in range(20)]
    resamples = np.random.default_rng(2).choice(values, (20000, num_values))
    assert np.mean(drawn) == pytest.approx(np.median(resamples, axis=1).std(), rel=0.03, abs=1e-12)


def test_the_interval_covers_the_true_median_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(3)
    intervals = [runner.bootstrap_median(rng.lognormal(sigma=0.3, size=41), rng) for _ in range(400)]
    covered = np.mean([interval["low"] <= 1.0 <= interval["high"] for interval in intervals])
    assert 0.90 <= covered <= 0.99


def test_rounds_that_were_interrupted_do_not_count_where_enough_others_are() -> None:
    reference, model = (runner.Network.__new__(runner.Network) for _ in range(2))
    reference.rounds_s, reference.was_interrupted = [1.0] * 6, [False] * 6
    model.rounds_s, model.was_interrupted = [0.5] * 2 + [3.0] * 3, [False] * 2 + [True] * 3
    assert model.ratio_to(reference, 2, 0)["estimate"] == 0.5
    assert model.ratio_to(reference, 3, 0)["estimate"] == 3.0


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=50))
def test_quantiles_are_ordered(samples_s: list[float]) -> None:
    summary = runner.quantiles(samples_s)
    assert summary["num_samples"] == len(samples_s)
    assert summary["min"] == pytest.approx(min(samples_s) * 1e3)
    assert summary["min"] <= summary["p50"] <= summary["p90"] <= max(samples_s) * 1e3 * (1 + 1e-12)
    assert summary["mean"] == pytest.approx(np.mean(samples_s) * 1e3)
