"""What stands in infra/ and prefect.yaml, as far as it can be checked without running containers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from secateur.cli.services import WORKERS

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "infra" / "compose.yaml"
DOCKERFILES = sorted((ROOT / "infra").glob("*.Dockerfile"))
WORKER_SERVICES = ("control", "gpu", "edge")


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = load("infra/compose.yaml")["services"]
    return loaded


def test_compose_says_that_it_was_not_run() -> None:
    assert "NOT RUN HERE" in COMPOSE.read_text().split("\nname:")[0]


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        else:
            assert re.fullmatch(r"[a-z/]+:(RELEASE\.)?\d+[\w.-]+", service["image"]), name


def test_whoever_is_waited_for_can_get_there(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"], f"{name} waits for {other}"
            else:
                assert services[other]["restart"] == "on-failure", f"{name} waits for {other}"


def test_volumes_are_declared(services: dict[str, dict[str, Any]]) -> None:
    used = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert {volume for volume in used if "/" not in volume} == set(load("infra/compose.yaml")["volumes"])


def test_no_secret_has_a_default() -> None:
    variables = set(re.findall(r"\$\{(\w+)(.*?)\}", COMPOSE.read_text()))
    assert all(default.startswith(":?") for _, default in variables)
    lines = [line for line in (ROOT / "infra" / "env.example").read_text().splitlines() if not line.startswith("#")]
    assert sorted(lines) == sorted(f"{name}=" for name in {name for name, _ in variables})


def test_nothing_is_published_beyond_this_host(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", WORKER_SERVICES)
def test_workers_serve_the_pools(services: dict[str, dict[str, Any]], name: str) -> None:
    command = services[name]["command"]
    assert command[command.index("--pool") + 1] == name
    assert "--with-healthcheck" in command
    assert services[name]["environment"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_the_edge_worker_has_the_device_and_no_torch(services: dict[str, dict[str, Any]]) -> None:
    assert services["edge"]["devices"] == ["/dev/bus/usb:/dev/bus/usb"]
    dockerfile = (ROOT / services["edge"]["build"]["dockerfile"]).read_text()
    assert "requirements-edge.lock" in dockerfile
    assert "requirements.lock" not in dockerfile
    assert not re.search(r"^(torch|ax-platform)==", (ROOT / "requirements-edge.lock").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles_are_pinned_and_run_as_nobody_special(path: Path) -> None:
    lines = path.read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert all(re.search(r":\d+\.\d+\.\d+-", base) for base in bases)
    assert [line for line in lines if line.startswith("USER ")] == ["USER secateur"]
    ignored = Path(f"{path}.dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = {part for line in lines if line.startswith("COPY requirements") for part in line.split()[1:-1]}
    assert {f"!{name}" for name in copied} <= set(ignored)


def test_deployments_use_the_pools_there_are() -> None:
    pools = set(load("infra/work-pools.yaml"))
    assert pools == set(WORKERS.values())
    deployments = load("prefect.yaml")["deployments"]
    assert {deployment["work_pool"]["name"] for deployment in deployments} == pools
    named = {(d["entrypoint"].rpartition(".")[2], d["name"]) for d in deployments}
    assert {("compress", "gpu"), ("measure", "edge"), ("sweep", "quickstart"), ("baseline", "control")} <= named
    studies = {d["parameters"]["study"] for d in deployments if "study" in d.get("parameters", {})}
    assert all((ROOT / study).is_file() for study in studies)


def test_hosts_are_given_up_after_three_heartbeats() -> None:
    lost, again = load("infra/automations.yaml")["automations"]
    assert lost["trigger"]["within"] >= 3 * 30
    pattern = again["trigger"]["match"]["prefect.state-message"]
    assert lost["actions"][0]["message"].startswith(pattern.removesuffix("*"))


def has_compose() -> bool:
    docker = shutil.which("docker")
    return docker is not None and subprocess.run([docker, "compose", "version"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
def test_docker_compose_accepts_it(tmp_path: Path) -> None:
    filled = (ROOT / "infra" / "env.example").read_text().replace("=\n", "=test\n")
    (tmp_path / "env").write_text(filled)
    command = ["docker", "compose", "--project-directory", str(ROOT), "--env-file", str(tmp_path / "env")]
    command += ["-f", str(COMPOSE), "-f", str(ROOT / "infra" / "compose.nvidia.yaml"), "config", "--quiet"]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
