"""What a store can do. Two implementations: a directory, and any S3 service."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol


class Entry(NamedTuple):
    """What is under a key, without its content."""

    key: str
    size_bytes: int
    modified_at: float
    """Seconds since the epoch, by the store's own clock; 0.0 where it has none."""


class Store(Protocol):
    """Bytes under keys. Keys are relative, with slashes: ``objects/<sha256>``, ``studies/<name>/study.yaml``.

    Every write is atomic: a reader, and a process started after a `kill -9` or a power cut, sees all of it or nothing.
    All methods raise `StoreError` or one of its kinds, and `InputError` for a key that leaves the store.
    """

    @property
    def url(self) -> str:
        """What `open_store` was given: a path or ``s3://bucket/prefix``; holds no credentials."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write `data`; with `if_absent`, only if nothing is there, decided by the store itself.

        Returns:
            Whether it was written.
        """

    def get(self, key: str) -> bytes:
        """Read what is under `key`.

        Raises:
            NotFoundError: Nothing is.
        """

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted."""

    def entries(self, prefix: str) -> tuple[Entry, ...]:
        """Return what is under the keys that begin with `prefix`, by key."""

    def delete(self, key: str) -> None:
        """Remove `key`; it need not exist."""

    def local_copy(self, key: str, *, suffix: str = "") -> AbstractContextManager[Path]:
        """Provide the content as a local file, whose name ends in `suffix`, for as long as the context lasts."""
