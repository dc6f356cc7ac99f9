from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from secateur.errors import StoreError, StoreUnavailableError, StudyBusyError
from secateur.store import Store, get_json, put_json
from secateur.store.directory import DirectoryStore
from secateur.store.lease import CollectorLease, StudyLease, read_lease
from tests.fakes import FailingStore, MemoryStore

KEY = "studies/demo/lease.json"

HOLD = """
import sys
from pathlib import Path
from secateur.store.directory import DirectoryStore
from secateur.store.lease import StudyLease
StudyLease(DirectoryStore(Path(sys.argv[1])), "demo").acquire()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=["directory", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    match request.param:
        case "directory":
            return DirectoryStore(tmp_path)
        case "s3":
            return request.getfixturevalue("s3_store")
        case _:
            return MemoryStore()


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.store.lease._SETTLE_S", 0.1)


def change(store: Store, **changes: Any) -> None:
    """Pretend that the lease is another's."""
    put_json(store, KEY, get_json(store, KEY) | changes)


def seconds_from_now(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def silent_for_too_long(lease: StudyLease | CollectorLease, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acquire it, and let it expire."""
    with monkeypatch.context() as patched:
        patched.setattr("secateur.store.lease._VALIDITY", timedelta(0))
        lease.acquire()


ELSEWHERE = {"holder": "other", "host": "edge-7", "machine": "another", "pid": 4711, "activity": "trial 3 of 16"}


def test_held_renewed_released(store: Store) -> None:
    lease = StudyLease(store, "demo", server_url="http://127.0.0.1:4200/api")
    assert read_lease(store, "demo") is None
    lease.acquire()
    first = read_lease(store, "demo")
    assert first is not None
    assert (first.pid, first.activity, first.server_url) == (os.getpid(), "starting", "http://127.0.0.1:4200/api")
    assert timedelta(seconds=59) < first.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
    lease.renew("trial 1 of 4")
    lease.renew()
    second = read_lease(store, "demo")
    assert second is not None
    assert (second.holder, second.since, second.activity) == (first.holder, first.since, "trial 1 of 4")
    assert second.expires_at > first.expires_at
    lease.release()
    lease.release()
    assert store.list("") == []


def test_who_holds_it_renews_it_whatever_else_is_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.store.lease.RENEWAL_S", 0.01)
    with StudyLease(store, "demo").held():
        first = read_lease(store, "demo")
        assert first is not None
        deadline = time.monotonic() + 10.0
        while (now := read_lease(store, "demo")) is not None and now.expires_at == first.expires_at:
            assert time.monotonic() < deadline
        assert now is not None
        assert now.holder == first.holder
    assert store.list("") == []


def test_a_second_sweep_is_refused(store: Store) -> None:
    StudyLease(store, "demo").acquire()
    change(store, **ELSEWHERE, since="2026-11-20T21:00:00Z")
    with pytest.raises(
        StudyBusyError,
        match=r"'demo' is being run by process 4711 on 'edge-7' since 2026-11-20 21:00:00 UTC \(trial 3 of 16\)\."
        r" Wait for it, or say 'secateur cancel demo'; if that process is gone, its claim ends at \d\d:\d\d:\d\d UTC",
    ):
        StudyLease(store, "demo").acquire()
    StudyLease(store, "demo2").acquire()


def test_an_expired_lease_is_taken_over(store: Store) -> None:
    StudyLease(store, "demo").acquire()
    change(store, **ELSEWHERE, expires_at=seconds_from_now(-1))
    assert read_lease(store, "demo") is None
    StudyLease(store, "demo").acquire()
    taken = read_lease(store, "demo")
    assert taken is not None
    assert taken.pid == os.getpid()


@pytest.mark.parametrize(
    ("changes", "is_stale"),
    [
        ({"process_started_at": 1000.0}, True),
        ({"pid": 2**22 + 1}, True),
        ({"pid": 2**22 + 1, "machine": "another"}, False),
        ({}, False),
    ],
    ids=["pid used again", "process gone", "another machine's pid", "alive"],
)
def test_a_lease_of_a_dead_process_is_taken_over_at_once(changes: dict[str, Any], is_stale: bool) -> None:
    store = MemoryStore()
    StudyLease(store, "demo").acquire()
    change(store, **changes)
    assert (read_lease(store, "demo") is None) == is_stale
    if is_stale:
        StudyLease(store, "demo").acquire()
    else:
        with pytest.raises(StudyBusyError):
            StudyLease(store, "demo").acquire()


def test_killed_holder(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    arguments = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StudyBusyError, match=f"process {holder.pid} on"):
            StudyLease(store, "demo").acquire()
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, not yet buried: a zombie
        StudyLease(store, "demo").acquire()


def test_a_lease_lost_is_noticed(store: Store) -> None:
    lease = StudyLease(store, "demo")
    lease.acquire()
    change(store, **ELSEWHERE)
    with pytest.raises(StudyBusyError, match="process 4711 on 'edge-7'"):
        lease.renew()
    lease.release()
    assert get_json(store, KEY)["holder"] == "other"


def test_a_lease_lost_stays_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lease, other = StudyLease(store, "demo"), StudyLease(store, "demo")
    silent_for_too_long(lease, monkeypatch)
    other.acquire()
    other.release()
    for _ in range(2):
        with pytest.raises(StudyBusyError, match="another sweep began and ended meanwhile"):
            lease.renew()
    assert store.list("") == []


def test_who_was_silent_and_missed_by_nobody_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = StudyLease(store, "demo")
    silent_for_too_long(lease, monkeypatch)
    assert read_lease(store, "demo") is None
    lease.renew()
    assert read_lease(store, "demo") is not None


def test_a_deleted_lease_is_written_again() -> None:
    store = MemoryStore()
    lease = StudyLease(store, "demo")
    lease.acquire()
    store.delete(KEY)
    lease.renew()
    assert read_lease(store, "demo") is not None


@pytest.mark.parametrize("is_expired", [False, True], ids=["free", "expired"])
def test_of_8_sweeps_one_gets_it(store: Store, is_expired: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.store.lease._SETTLE_S", 0.5)
    if is_expired:
        StudyLease(store, "demo").acquire()
        change(store, expires_at=seconds_from_now(-1))

    def acquire(lease: StudyLease) -> bool:
        try:
            lease.acquire()
        except StudyBusyError:
            return False
        return True

    leases = [StudyLease(store, "demo") for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        acquired = list(threads.map(acquire, leases))
    assert sum(acquired) == 1
    leases[acquired.index(True)].renew()


class LosesTheAnswer(MemoryStore):
    """Writes, and then cannot say so."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        if super().put(key, data, if_absent=if_absent):
            raise StoreUnavailableError("no answer")
        return False


def test_acquiring_may_be_tried_again() -> None:
    lease = StudyLease(LosesTheAnswer(), "demo")
    with pytest.raises(StoreUnavailableError, match="no answer"):
        lease.acquire()
    lease.acquire()


def test_released_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    other = StudyLease(store, "demo")
    other.acquire()
    read = store.get
    monkeypatch.setattr(store, "get", lambda key: (monkeypatch.undo(), other.release(), read(key))[2])
    lease = StudyLease(store, "demo")
    lease.acquire()
    lease.renew()


def test_outrun_by_a_sweep_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    StudyLease(store, "demo").acquire()
    change(store, expires_at=seconds_from_now(-1))
    monkeypatch.setattr("time.sleep", lambda _: store.delete(KEY))
    with pytest.raises(StudyBusyError, match="another sweep began and ended meanwhile; start again"):
        StudyLease(store, "demo").acquire()


@pytest.mark.parametrize("data", [b"{", b"{}", json.dumps(ELSEWHERE).encode()], ids=["broken", "empty", "partial"])
def test_broken_lease(data: bytes) -> None:
    store = MemoryStore()
    store.put(KEY, data)
    for use in (lambda: read_lease(store, "demo"), StudyLease(store, "demo").acquire):
        with pytest.raises(StoreError, match=f"'{KEY}' is no lease: .* Delete it if no sweep is running"):
            use()


def test_store_failures_are_the_caller_s() -> None:
    store = FailingStore(MemoryStore(), method="put", at=2, error=StoreUnavailableError("away"))
    lease = StudyLease(store, "demo")
    lease.acquire()
    with pytest.raises(StoreUnavailableError, match="away"):
        lease.renew()
    lease.renew()
