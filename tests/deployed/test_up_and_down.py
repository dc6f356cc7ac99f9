"""One `secateur up` for all tests here; they run in this order, and the last one ends it."""

from __future__ import annotations

import json
import stat
import urllib.error
from pathlib import Path

import psutil
import pytest

from secateur.cli.services import PARTS
from tests.deployed.machine import Machine
from tests.flows.tiny import write_study


def test_a_sweep_runs_on_the_work_pools_and_in_s3(machine: Machine, tmp_path: Path) -> None:
    study = write_study(tmp_path, {"budget": {"trials": 2, "parallel": 2}})
    swept = machine.run_sweep(study)
    assert swept.returncode == 0, swept.stdout + swept.stderr

    results = machine.study_files("tiny").results()
    assert [(trial.label, trial.state) for trial in results.trials] == [("0", "completed"), ("1", "completed")]
    assert all(trial.latency is not None for trial in [*results.trials, *results.baselines.values()])
    assert machine.study_files("tiny").store.get("studies/tiny/report/report.html").startswith(b"<!DOCTYPE html>")

    assert [run["state_name"] for run in machine.flow_runs("sweep")] == ["Completed"]
    assert [run["state_name"] for run in machine.flow_runs("compress")] == ["Completed"] * 3
    assert [run["state_name"] for run in machine.flow_runs("measure")] == ["Completed"] * 2
    assert all(run["work_pool_name"] == "gpu" and run["parent_task_run_id"] for run in machine.flow_runs("compress"))

    artifacts = {artifact["key"]: artifact for artifact in machine.api("/artifacts/latest/filter")}
    assert {key: artifacts[key]["type"] for key in artifacts} == {
        "tiny-progress": "progress",
        "tiny-leaderboard": "table",
        "tiny-summary": "markdown",
        "tiny-pareto": "image",
    }
    assert artifacts["tiny-progress"]["data"] == 100.0


@pytest.mark.slow
def test_a_night_is_measured_on_every_edge_pool(machine: Machine, tmp_path: Path) -> None:
    swept = machine.run_sweep(write_study(tmp_path, {"budget": {"trials": 2, "parallel": 2}}))
    assert swept.returncode == 0, swept.stdout + swept.stderr
    measured = machine.prefect("deployment", "run", "remeasure/nightly", "--param", "study=tiny", "--watch")
    assert measured.returncode == 0, measured.stdout + measured.stderr
    (night,) = machine.study_files("tiny").nights()
    assert (night.place, set(night.reports)) == ("edge", {"off_the_shelf"})
    [run] = machine.flow_runs("measure-again")
    assert (run["state_name"], run["work_pool_name"]) == ("Completed", "edge")


def test_secateur_sees_the_study_through_the_env_file(machine: Machine) -> None:
    told = machine.secateur("status", "--json", is_sourced=True)
    assert [study["study"] for study in json.loads(told.stdout)["studies"]] == ["tiny"]


@pytest.mark.parametrize(
    ("deployment", "parameters", "problem"),
    [
        ("sweep/quickstart", {"trials": -1}, "-1 is less than the minimum of 1"),
        ("sweep/quickstart", {"additional_trials": "many"}, "'many' is not of type 'integer'"),
        ("baseline/control", {}, "'study' is a required property"),
    ],
    ids=["too few", "no number", "missing"],
)
def test_a_bad_parameter_is_refused(
    machine: Machine, deployment: str, parameters: dict[str, object], problem: str
) -> None:
    identity = machine.api(f"/deployments/name/{deployment}", method="GET")["id"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        machine.api(f"/deployments/{identity}/create_flow_run", {"parameters": parameters})
    assert refused.value.code == 409
    assert problem in refused.value.read().decode()


def test_what_the_server_was_taught(machine: Machine) -> None:
    pools = {pool["name"]: pool for pool in machine.api("/work_pools/filter")}
    limits = {name: (pool["type"], pool["concurrency_limit"]) for name, pool in pools.items()}
    assert limits == {"control": ("process", 8), "gpu": ("process", 1), "edge": ("process", 1)}
    assert all(pool["status"] == "READY" for pool in pools.values())

    [schedule] = machine.api("/deployments/name/sweep/nightly", method="GET")["schedules"]
    assert schedule["active"] is False
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("30 1 * * *", "Europe/Berlin")

    [nightly] = machine.api("/deployments/name/remeasure/nightly", method="GET")["schedules"]
    assert nightly["active"] is False

    automations = {a["name"]: a for a in machine.api("/automations/filter")}
    assert automations["secateur mark lost runs as crashed"]["trigger"]["within"] == 90
    assert automations["secateur reschedule lost sweeps"]["actions"][0]["state"] == "SCHEDULED"


def test_credentials_stand_in_one_private_file(machine: Machine) -> None:
    path = machine.up_folder / "env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = machine.exports()["AWS_SECRET_ACCESS_KEY"].encode()
    told = [p for p in machine.up_folder.rglob("*") if p.is_file() and p != path and secret in p.read_bytes()]
    assert not told
    assert not any(secret.decode() in argument for process in machine.processes() for argument in process.cmdline())


def test_all_listen_on_loopback_alone(machine: Machine) -> None:
    addresses = {
        connection.laddr.ip
        for process in machine.processes()
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_up_again(machine: Machine) -> None:
    before = machine.state()
    again = machine.up()
    assert again.returncode == 0
    assert again.stdout.startswith("Already up.")
    assert f"http://127.0.0.1:{machine.port}" in again.stdout
    assert machine.state() == before


def test_down_ends_all_of_it_and_nothing_else(machine: Machine) -> None:
    with psutil.Popen(["sleep", "600"]) as bystander:
        ended = machine.down()
        assert all(f"{name} (process " in ended.stdout for name in PARTS), ended.stderr
        assert machine.processes() == []
        assert machine.state().alive() == []
        assert bystander.is_running()
        bystander.kill()
    again = machine.down()
    assert (again.returncode, again.stdout) == (0, "Nothing was running.\n")
