"""Commands in a warm process that can be killed, as in `tests.flows`; an analysis needs no Prefect server."""

from __future__ import annotations

import pytest

from tests.flows.conftest import runs

__all__ = ["prefect_environment", "runs"]


@pytest.fixture(scope="session")
def prefect_environment() -> dict[str, str]:
    return {}
