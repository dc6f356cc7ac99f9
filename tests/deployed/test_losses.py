"""Workers, hosts and child flows that are lost in the middle of a sweep. Minutes each: heartbeats come every 30 s."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.deployed.machine import ROOT, Machine, wait_until
from tests.flows.tiny import write_study

pytestmark = pytest.mark.slow

# Long enough to be killed in the middle.
TRAINING = {"epochs": 20, "lr": 0.05, "batch_size": 1}


def begin(machine: Machine, folder: Path, name: str) -> Callable[[], list[str]]:
    """Begin a sweep of two trials; return a function that tells the states of its flow runs."""
    study = write_study(folder, {"name": name, "budget": {"trials": 2, "parallel": 2}, "training": TRAINING})
    known = {run["id"] for run in machine.flow_runs("sweep")}
    machine.begin_sweep(study)
    return lambda: [run["state_name"] for run in machine.flow_runs("sweep") if run["id"] not in known]


def runs_of(machine: Machine, flow: str, study: str, state: str) -> list[dict[str, Any]]:
    runs = machine.flow_runs(flow)
    return [run for run in runs if run["parameters"]["study"] == study and run["state_name"] == state]


def is_training(machine: Machine, study: str) -> bool:
    """Tell whether trials are being compressed, rather than baselines."""
    running = runs_of(machine, "compress", study, "Running")
    return any(run["parameters"]["labels"][0].isdecimal() for run in running)


def assert_complete(machine: Machine, study: str, num_trials: int = 2) -> None:
    trials = machine.study_files(study).results().trials
    assert [(trial.label, trial.state) for trial in trials] == [(str(i), "completed") for i in range(num_trials)]


def test_a_worker_is_killed_with_its_run(machine: Machine, tmp_path: Path) -> None:
    states = begin(machine, tmp_path, "worker-lost")
    wait_until(lambda: is_training(machine, "worker-lost"), "the trials' training")
    machine.kill_worker("gpu")
    again = machine.up()
    assert again.stdout.startswith("Up."), again.stderr
    wait_until(lambda: states() == ["Completed"], "the sweep's end")
    assert_complete(machine, "worker-lost")
    [lost] = runs_of(machine, "compress", "worker-lost", "Crashed")
    assert lost["state"]["message"] == "Host lost: no heartbeat for 90 s."

    more = machine.run_sweep(tmp_path / "study.yaml", additional_trials=1)
    assert more.returncode == 0, more.stdout
    assert_complete(machine, "worker-lost", num_trials=3)


def test_a_sweep_is_killed_with_its_worker(machine: Machine, tmp_path: Path) -> None:
    states = begin(machine, tmp_path, "sweep-lost")
    wait_until(lambda: is_training(machine, "sweep-lost"), "the trials' training")
    machine.kill_worker("control")
    machine.up()
    wait_until(lambda: "Running" not in states(), "the crash to be seen")
    wait_until(lambda: states() == ["Completed"], "the sweep's end")
    assert_complete(machine, "sweep-lost")


def test_the_whole_machine_is_lost(machine: Machine, tmp_path: Path) -> None:
    states = begin(machine, tmp_path, "all-lost")
    wait_until(lambda: is_training(machine, "all-lost"), "the trials' training")
    for process in machine.processes():
        process.kill()
    again = machine.up()
    assert "was cut off: sweep" in again.stderr
    wait_until(lambda: states() == ["Crashed", "Completed"], "the sweep's end")
    assert_complete(machine, "all-lost")


def test_the_server_is_lost(machine: Machine, tmp_path: Path) -> None:
    states = begin(machine, tmp_path, "server-lost")
    wait_until(lambda: is_training(machine, "server-lost"), "the trials' training")
    psutil.Process(machine.pid("Prefect server")).kill()
    again = machine.up()
    assert again.stdout.startswith("Up."), again.stderr
    wait_until(lambda: states()[-1] == "Completed", "the sweep's end")
    assert_complete(machine, "server-lost")


def test_down_in_the_middle_and_up_again(machine: Machine, tmp_path: Path) -> None:
    states = begin(machine, tmp_path, "ended")
    wait_until(lambda: is_training(machine, "ended"), "the trials' training")
    machine.down()
    assert machine.processes() == []
    assert "was cut off" not in machine.up().stderr
    assert states() == ["Crashed"]
    swept = machine.run_sweep(tmp_path / "study.yaml")
    assert swept.returncode == 0, swept.stdout
    assert_complete(machine, "ended")


def test_a_child_flow_fails(machine: Machine, tmp_path: Path) -> None:
    name = "measure/edge"
    deployment = machine.api(f"/deployments/name/{name}", method="GET")
    machine.api(f"/deployments/{deployment['id']}", {"entrypoint": "tests.deployed.failing.measure"}, "PATCH")
    try:
        states = begin(machine, tmp_path, "child-fails")
        wait_until(lambda: states() == ["Failed"], "the sweep's end")
    finally:
        machine.api(f"/deployments/{deployment['id']}", {"entrypoint": deployment["entrypoint"]}, "PATCH")
    message = machine.flow_runs("sweep")[-1]["state"]["message"]
    assert re.search(r"DispatchError: Flow run '.+' of 'measure/edge' ended as Failed: .*the device fell off", message)
    names = [run["name"] for run in runs_of(machine, "measure", "child-fails", "Failed")]
    assert len(names) == 4  # the first, and three retries
    assert any(repr(name) in message for name in names)


def test_prefect_deploys_the_same_file(machine: Machine) -> None:
    before = {d["name"]: d["updated"] for d in machine.api("/deployments/filter")}
    deployed = machine.prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(ROOT / "prefect.yaml"))
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    after = {d["name"]: d for d in machine.api("/deployments/filter")}
    assert set(after) == set(before)
    assert all(after[name]["updated"] > before[name] for name in before)
    assert all(deployment["pull_steps"] in ([], None) for deployment in after.values())
    assert after["quickstart"]["entrypoint"] == "flows.sweep_study.sweep"
