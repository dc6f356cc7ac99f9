"""Fixtures that tests of several packages share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from flows.embedded_server import EmbeddedServer
from tests.golden.regenerate import regenerate
from tests.runs import ROOT, Runs
from tests.s3_server import s3_service

# Two threads on a busy machine wait for one another at every operation: tiny networks are faster with one.
torch.set_num_threads(1)


# The same examples at every run, however busy the machine is.
settings.register_profile("secateur", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("secateur")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regen-golden", action="store_true", help="Rewrite tests/golden/*.json from ../shared/golden; read the diff."
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--regen-golden"):
        regenerate()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders that wait for servers and workers: the others then run beside them."""
    items.sort(key=lambda item: item.path.parent.name not in {"deployed", "flows", "analysis"})


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 service: the environment variables by which `open_store` reaches it."""
    with s3_service(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture(scope="session")
def prefect_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real Prefect server: the environment variables by which runs reach it."""
    home = tmp_path_factory.mktemp("prefect")
    server = EmbeddedServer(home)
    server.wait()
    yield {"PREFECT_API_URL": f"{server.url}/api", "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"}
    server.stop()


@pytest.fixture(scope="session")
def runs(prefect_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """Provide a warm process whose commands use one real Prefect server."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "SECATEUR_STORE"},
        **prefect_environment,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "SECATEUR_CACHE": str(tmp_path_factory.mktemp("cache")),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # as a command sets it before it imports Prefect
    }
    runs = Runs(environment, tmp_path_factory.mktemp("runs"))
    yield runs
    runs.close()
