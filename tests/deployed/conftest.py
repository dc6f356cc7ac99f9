from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deployed.machine import Machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A server, an object store and three workers, started with `secateur up`."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    started = machine.up()
    assert started.returncode == 0, started.stderr
    yield machine
    ended = machine.down()
    assert ended.returncode == 0, ended.stderr
