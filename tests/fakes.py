"""Stores that exist to make failures happen, or to be fast."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Lock

from secateur.errors import NotFoundError
from secateur.store import Entry, Store
from secateur.store.keys import check_key, check_prefix
from secateur.store.private_file import private_file


class MemoryStore:
    """Bytes in a dict; safe for threads."""

    url = "memory"

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._written_at: dict[str, float] = {}
        self._lock = Lock()

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        check_key(key)
        with self._lock:
            if if_absent and key in self._values:
                return False
            self._values[key] = bytes(data)
            self._written_at[key] = time.time()
            return True

    def get(self, key: str) -> bytes:
        check_key(key)
        try:
            return self._values[key]
        except KeyError:
            raise NotFoundError(f"{self.url}: there is nothing under {key!r}.") from None

    def list(self, prefix: str) -> list[str]:
        check_prefix(prefix)
        with self._lock:
            return sorted(key for key in self._values if key.startswith(prefix))

    def entries(self, prefix: str) -> tuple[Entry, ...]:
        return tuple(Entry(key, len(self._values[key]), self._written_at[key]) for key in self.list(prefix))

    def delete(self, key: str) -> None:
        check_key(key)
        self._values.pop(key, None)

    def local_copy(self, key: str, *, suffix: str = "") -> AbstractContextManager[Path]:
        return private_file(self.get(key), suffix=suffix)


class FailingStore:
    """Another store whose `method` raises `error` at its `at`-th call (from 1), before it does anything; once.

    `calls` counts all calls by method, so that a test can first learn how many there are.
    """

    def __init__(self, store: Store, *, method: str = "", at: int = 1, error: BaseException | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self._store = store
        self._method = method
        self._at = at
        self._error = error

    @property
    def url(self) -> str:
        return self._store.url

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        self._count("put")
        return self._store.put(key, data, if_absent=if_absent)

    def get(self, key: str) -> bytes:
        self._count("get")
        return self._store.get(key)

    def list(self, prefix: str) -> list[str]:
        self._count("list")
        return self._store.list(prefix)

    def entries(self, prefix: str) -> tuple[Entry, ...]:
        self._count("entries")
        return self._store.entries(prefix)

    def delete(self, key: str) -> None:
        self._count("delete")
        self._store.delete(key)

    def local_copy(self, key: str, *, suffix: str = "") -> AbstractContextManager[Path]:
        self._count("local_copy")
        return self._store.local_copy(key, suffix=suffix)

    def _count(self, method: str) -> None:
        self.calls[method] += 1
        if self._error is not None and method == self._method and self.calls[method] == self._at:
            raise self._error
