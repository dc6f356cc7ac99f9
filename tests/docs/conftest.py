"""Commands in a warm process, as in `tests.flows`, that keep decoded images to themselves."""

from __future__ import annotations

import pytest

from tests.flows.conftest import runs

__all__ = ["prefect_environment", "runs"]


@pytest.fixture(scope="session")
def prefect_environment(
    prefect_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    return {**prefect_environment, "SECATEUR_CACHE": str(tmp_path_factory.mktemp("cache"))}
