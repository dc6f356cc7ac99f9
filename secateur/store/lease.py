"""Leases: two sweeps of one study must not run at the same time, and none while the store is cleaned.

The holder writes who it is and until when, and renews that; whoever finds a lease that has expired, or whose process is
gone from the same machine, takes it over. Times are wall clock: the hosts' clocks may differ by as much as `_VALIDITY`
exceeds the holder's interval of renewal (every 20 s: by 40 s) before a lease that is alive looks expired. A clock that
lags only makes its host wait longer.

Who cleans the store takes a lease on the whole of it, and so excludes all studies: each side writes its own claim first
and then looks for the other's, so that of two at the same moment at least one sees the other.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import psutil
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from secateur.errors import NotFoundError, StoreError, StudyBusyError
from secateur.store.protocol import Store
from secateur.store.study_files import lease_key

RENEWAL_S = 20.0
_VALIDITY = timedelta(seconds=60)
_SETTLE_S = 0.5
_START_TOLERANCE_S = 2.0
_COLLECTOR_KEY = "gc/lease.json"


class Lease(BaseModel):
    """Who runs a study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    holder: str
    """Random; no two holders have the same."""
    host: str
    machine: str
    """Where a pid means something: one boot of one kernel, one pid namespace. Cloned hosts may share a name."""
    pid: int
    process_started_at: float
    """Seconds since the epoch: pids are used again."""
    since: AwareDatetime
    expires_at: AwareDatetime
    activity: str
    """What is being done, in words."""
    server_url: str | None
    """Where the sweep's Prefect server answers."""

    @property
    def is_stale(self) -> bool:
        """Whether its holder has certainly, or long enough, not been heard of."""
        return datetime.now(UTC) > self.expires_at or (self.machine == _machine() and not self._is_process_alive())

    def _is_process_alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            # The system derives a start time from the clock of that moment: it moves when the clock is set.
            is_same = abs(process.create_time() - self.process_started_at) < _START_TOLERANCE_S
            return is_same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


class _Claim(ABC):
    """What both leases have in common."""

    def __init__(self, store: Store, key: str, *, activity: str, server_url: str | None = None) -> None:
        self._store = store
        self._key = key
        self._is_lost = False
        now = datetime.now(UTC)
        self._lease = Lease(
            holder=uuid.uuid4().hex,
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            process_started_at=psutil.Process().create_time(),
            since=now,
            expires_at=now + _VALIDITY,
            activity=activity,
            server_url=server_url,
        )

    def check(self) -> None:
        """Look whether the lease could be taken now.

        Raises:
            StudyBusyError: Somebody else holds it.
        """
        current = _alive(self._store, self._key)
        if current is not None and current.holder != self._lease.holder:
            raise self._busy(current)

    def acquire(self) -> None:
        """Take the lease; the holder is to `renew` it every 20 s.

        Raises:
            StudyBusyError: Somebody else holds it, or one that excludes it.
        """
        self._claim()
        self._give_way()

    def _claim(self) -> None:
        now = datetime.now(UTC)
        self._lease = self._lease.model_copy(update={"since": now, "expires_at": now + _VALIDITY})
        while not self._store.put(self._key, self._data(), if_absent=True):
            current = _read(self._store, self._key)
            if current is None:  # released just now
                continue
            if current.is_stale:
                self._take_over()
            elif current.holder != self._lease.holder:  # ours if the answer to an earlier attempt was lost
                raise self._busy(current)
            return

    def _take_over(self) -> None:
        self._store.put(self._key, self._data())
        # Of several that find the same stale lease, the last to write wins. Each gives the others time to have written
        # before it looks: far longer than reading and writing takes.
        time.sleep(_SETTLE_S)
        current = _read(self._store, self._key)
        if current is None or current.holder != self._lease.holder:
            raise self._busy(current)

    def renew(self, activity: str | None = None) -> None:
        """Hold the lease for another while, and say what is being done; None: the same as before.

        Raises:
            StudyBusyError: Somebody took it over, now or before: this process was silent for too long, and has to stop.
        """
        current = _read(self._store, self._key)
        was_silent = datetime.now(UTC) > self._lease.expires_at
        if (was_silent and current is None) or (current is not None and current.holder != self._lease.holder):
            self._is_lost = True  # for good: whoever took it may have changed what it protects, and be gone
        if self._is_lost:
            raise self._busy(current)
        self._lease = self._lease.model_copy(
            update={"expires_at": datetime.now(UTC) + _VALIDITY, "activity": activity or self._lease.activity}
        )
        self._store.put(self._key, self._data())
        if was_silent:
            self._give_way()

    @contextmanager
    def held(self) -> Iterator[Self]:
        """Acquire; renew in a thread, whatever the caller is busy with; release.

        Who goes on to change what the lease protects is to `renew` first, which tells whether it is still held.
        """
        self.acquire()
        is_over = threading.Event()
        keeper = threading.Thread(target=self._keep_until, args=(is_over,), daemon=True)
        keeper.start()
        try:
            yield self
        finally:
            is_over.set()
            keeper.join()
            with suppress(StoreError):  # it expires
                self.release()

    def _keep_until(self, is_over: threading.Event) -> None:
        while not is_over.wait(RENEWAL_S):
            with suppress(StoreError, StudyBusyError):  # the next try comes in time; the caller's own tells the other
                self.renew()

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        current = _read(self._store, self._key)
        if current is not None and current.holder == self._lease.holder:
            self._store.delete(self._key)

    def _give_way(self) -> None:
        """Release the lease again if somebody holds one that excludes it.

        Raises:
            StudyBusyError: Somebody does.
        """
        if (other := self._excluding()) is not None:
            self._is_lost = True
            self.release()
            raise other

    def _data(self) -> bytes:
        return self._lease.model_dump_json(indent=1).encode()

    @abstractmethod
    def _excluding(self) -> StudyBusyError | None:
        """Return what to raise because of another lease that excludes this one; None if there is none."""

    @abstractmethod
    def _busy(self, current: Lease | None) -> StudyBusyError:
        """Return what to raise: `current` holds the lease, or none does any more."""


class StudyLease(_Claim):
    """This process's claim on one study."""

    def __init__(self, store: Store, study: str, *, server_url: str | None = None) -> None:
        super().__init__(store, lease_key(study), activity="starting", server_url=server_url)
        self._study = study

    def _excluding(self) -> StudyBusyError | None:
        if (collector := _alive(self._store, _COLLECTOR_KEY)) is None:
            return None
        return StudyBusyError(
            f"study {self._study!r} cannot be run: process {collector.pid} on {collector.host!r} is cleaning"
            f" the store {self._store.url} ('secateur gc'). Try again when it has ended."
        )

    def _busy(self, current: Lease | None) -> StudyBusyError:
        if current is None:
            return StudyBusyError(f"study {self._study!r}: another sweep began and ended meanwhile; start again.")
        return StudyBusyError(
            f"study {self._study!r} is being run by process {current.pid} on {current.host!r}"
            f" since {current.since:%Y-%m-%d %H:%M:%S} UTC ({current.activity}). Wait for it, or say"
            f" 'secateur cancel {self._study}'; if that process is gone, its claim ends"
            f" at {current.expires_at:%H:%M:%S} UTC."
        )


class CollectorLease(_Claim):
    """This process's claim on a whole store: nobody may run a study meanwhile."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, _COLLECTOR_KEY, activity="cleaning the store")

    def _excluding(self) -> StudyBusyError | None:
        for key in self._store.list("studies/"):
            if key.endswith("/lease.json") and (lease := _alive(self._store, key)) is not None:
                study = key.removeprefix("studies/").removesuffix("/lease.json")
                return StudyBusyError(
                    f"study {study!r} is being run by process {lease.pid} on {lease.host!r} ({lease.activity}): what it"
                    f" writes must not be freed. Wait for it, or say 'secateur cancel {study}'."
                )
        return None

    def _busy(self, current: Lease | None) -> StudyBusyError:
        if current is None:
            return StudyBusyError(f"{self._store.url}: another 'secateur gc' began and ended meanwhile; start again.")
        return StudyBusyError(
            f"{self._store.url} is being cleaned by process {current.pid} on {current.host!r}. Wait for it; if that"
            f" process is gone, its claim ends at {current.expires_at:%H:%M:%S} UTC."
        )


def read_lease(store: Store, study: str) -> Lease | None:
    """Return who runs a study; None if nobody does, or nobody who is still alive."""
    return _alive(store, lease_key(study))


def _alive(store: Store, key: str) -> Lease | None:
    lease = _read(store, key)
    return None if lease is None or lease.is_stale else lease


def _read(store: Store, key: str) -> Lease | None:
    try:
        return Lease.model_validate_json(store.get(key))
    except NotFoundError:
        return None
    except ValidationError as exc:
        problem = exc.errors(include_url=False)[0]["msg"]
        raise StoreError(f"{store.url}: {key!r} is no lease: {problem}. Delete it if no sweep is running.") from None


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
