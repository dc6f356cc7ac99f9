"""The runner as a program: its protocol, its statistics, and what it needs."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secateur.benchmark.client import RUNNER
from secateur.benchmark.runner import interval
from secateur.benchmark.runner.interval import bootstrap_medians, hierarchical_interval, paired_ratios, student_factor
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
    files = {"reference": str(net), "models": [str(net)]}
    locks = {name: str(tmp_path / f"{name}.lock") for name in ("device", "queue", "host")}
    return {
        "command": "measure",
        "profile": profile.model_dump(),
        "seed": 0,
        "locks": {**locks, "is_exclusive": False, "timeout_s": 1.0},
        "with_details": True,
        **files,
    }


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
    program = tmp_path / "runner"
    shutil.copytree(RUNNER, program)
    for name in ("random.py", "platform.py", "numpy.py"):
        (program / name).write_text("raise RuntimeError('shadowed')\n")
    [event], _ = ask({"command": "devices"}, program)
    assert "CPU" in [device["name"] for device in event["devices"]]


def test_it_ends_itself_when_it_is_silent_for_too_long() -> None:
    events, stderr = ask({"command": "devices", "timeout_s": 0.01})
    assert events == []
    assert "Timeout" in stderr
    assert "runner" in stderr


def test_it_needs_only_the_standard_library_numpy_and_openvino() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8)) for path in RUNNER.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}
    others = {name for name in imported if not name.startswith("secateur.benchmark.runner")}
    assert {name.split(".")[0] for name in others} <= sys.stdlib_module_names | {"numpy", "openvino", "ngraph"}


@settings(deadline=None)  # the machine may be busy
@given(RATIOS, st.integers(0, 1000))
def test_the_interval_holds_the_estimate_and_lies_within_the_values(values: np.ndarray, seed: int) -> None:
    found = hierarchical_interval([values], np.random.default_rng(seed))
    assert values.min() <= found["low"] <= found["estimate"] <= found["high"] <= values.max()
    assert found["estimate"] == np.median(values)
    assert found["standard_error"] >= 0


@settings(deadline=None)  # the machine may be busy
@given(RATIOS, st.sampled_from([2.0**power for power in range(-8, 9)]))
def test_the_interval_scales_with_the_values(values: np.ndarray, factor: float) -> None:
    found = hierarchical_interval([values, values + 1], np.random.default_rng(0))
    scaled = hierarchical_interval([values * factor, (values + 1) * factor], np.random.default_rng(0))
    assert scaled == pytest.approx({name: value * factor for name, value in found.items()})


@pytest.mark.parametrize("num_values", [1, 2, 5, 20, 21])
def test_drawing_order_statistics_equals_resampling(num_values: int) -> None:
    values = np.random.default_rng(1).lognormal(size=num_values)
    drawn = [bootstrap_medians(values, np.random.default_rng(seed), 1000).std() for seed in range(20)]
    resamples = np.random.default_rng(2).choice(values, (20000, num_values))
    assert np.mean(drawn) == pytest.approx(np.median(resamples, axis=1).std(), rel=0.03, abs=1e-12)


def test_the_interval_covers_the_true_median_as_often_as_it_claims() -> None:
    rng = np.random.default_rng(3)
    intervals = [hierarchical_interval([rng.lognormal(sigma=0.3, size=41)], rng) for _ in range(400)]
    covered = np.mean([found["low"] <= 1.0 <= found["high"] for found in intervals])
    assert 0.90 <= covered <= 0.99


@pytest.mark.parametrize("num_processes", [3, 5, 9])
def test_few_processes_tell_how_compilations_differ(num_processes: int) -> None:
    """Each compilation has an offset of its own, ten times what is left of the blocks' noise."""
    rng = np.random.default_rng(4)
    num_covered, num_covered_pooled = 0, 0
    for _ in range(300):
        processes = [1 + rng.normal(0, 0.02) + rng.normal(0, 0.01, 41) for _ in range(num_processes)]
        found, pooled = (hierarchical_interval(p, rng) for p in (processes, [np.concatenate(processes)]))
        num_covered += found["low"] <= 1 <= found["high"]
        num_covered_pooled += pooled["low"] <= 1 <= pooled["high"]
    assert 0.92 * 300 <= num_covered <= 0.98 * 300
    assert num_covered_pooled < 0.5 * 300


@pytest.mark.parametrize(("num_degrees", "tolerance"), [(1, 0.12), (2, 0.01), (3, 0.002), (4, 1e-3), (30, 1e-6)])
def test_students_factor(num_degrees: int, tolerance: float) -> None:
    exact = stats.t.ppf(0.975, num_degrees) / stats.norm.ppf(0.975)
    assert student_factor(num_degrees) == pytest.approx(exact, rel=tolerance)


@pytest.mark.parametrize(
    ("values", "change", "is_drifting"),
    [
        (np.ones(40), 0.0, False),
        (np.linspace(1.0, 1.1, 40), 0.05, True),
        (np.linspace(1.1, 1.0, 40), -0.0476, True),
        (np.tile([1.0, 1.1], 20), 0.0, False),
    ],
    ids=["constant", "rising", "falling", "alternating"],
)
def test_drift_is_a_trend_and_no_noise(values: np.ndarray, change: float, is_drifting: bool) -> None:
    found = interval.drift(values)
    assert found["change"] == pytest.approx(change, abs=2e-3)
    assert (found["p_value"] < 0.001) == is_drifting


def test_drift_is_claimed_of_noise_as_often_as_the_p_value_says() -> None:
    rng = np.random.default_rng(5)
    claims = [interval.drift(rng.lognormal(size=30))["p_value"] < 0.05 for _ in range(1000)]
    assert 0.03 <= np.mean(claims) <= 0.07


def test_rounds_that_were_interrupted_do_not_count_where_enough_others_are() -> None:
    model_s, was_interrupted = [0.5] * 2 + [3.0] * 3, [False] * 2 + [True] * 3
    assert paired_ratios(model_s, [1.0] * 6, was_interrupted, 2).tolist() == [0.5, 0.5]
    assert paired_ratios(model_s, [1.0] * 6, was_interrupted, 3).tolist() == model_s


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=50))
def test_quantiles_are_ordered(samples_ms: list[float]) -> None:
    summary = interval.quantiles(samples_ms)
    assert summary["num_samples"] == len(samples_ms)
    assert summary["min"] == min(samples_ms)
    assert summary["min"] <= summary["p50"] <= summary["p90"] <= max(samples_ms) * (1 + 1e-12)
    assert summary["mean"] == pytest.approx(np.mean(samples_ms))
    assert summary["p99"] is None


def test_the_99th_percentile_needs_a_thousand_samples() -> None:
    assert interval.quantiles([1.0] * 999)["p99"] is None
    assert interval.quantiles([float(i) for i in range(1000)])["p99"] == pytest.approx(989.01)
