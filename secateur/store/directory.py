"""A store in a directory: one file a key, written so that no reader ever sees half of one.

A key cannot at the same time be the folder of other keys: ``a`` and ``a/b`` exclude each other.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from secateur.errors import NotFoundError, StoreError
from secateur.store.keys import TEMPORARY, check_key, check_prefix
from secateur.store.os_errors import os_errors
from secateur.store.private_file import private_file
from secateur.store.protocol import Entry

_ABANDONED_S = 24 * 3600.0
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP}


class DirectoryStore:
    """Keys are paths below `root`, which the first write creates."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._temporary = root / TEMPORARY
        with os_errors(root, "opened"):
            if root.exists() and not root.is_dir():
                raise StoreError(f"{root}: this is a file; name a directory to keep a store in.")
            self._remove_abandoned()

    def __repr__(self) -> str:
        return f"DirectoryStore({str(self._root)!r})"

    @property
    def url(self) -> str:
        """The directory's path."""
        return str(self._root)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write `data`, atomically; see `Store.put`."""
        path = self._path(key)
        with os_errors(path, "written"):
            if if_absent and path.exists():  # only to save the writing: the link below decides
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._written(data) as temporary:
                if not if_absent:
                    temporary.replace(path)
                elif not _link(temporary, path):
                    return False
            _sync(path.parent)
        return True

    def get(self, key: str) -> bytes:
        """Read what is under `key`; see `Store.get`."""
        path = self._path(key)
        with os_errors(path, "read"):
            try:
                return path.read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                raise NotFoundError(f"{self._root}: there is nothing under {key!r}.") from None

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted; unfinished writes are none."""
        check_prefix(prefix)
        folder = self._root / prefix.rpartition("/")[0]
        keys = []
        with os_errors(folder, "listed"):
            for directory, folders, names in os.walk(folder, onerror=_raise_unless_absent):
                if Path(directory) == self._root and TEMPORARY in folders:
                    folders.remove(TEMPORARY)
                keys += [Path(directory, name).relative_to(self._root).as_posix() for name in names]
        return sorted(key for key in keys if key.startswith(prefix))

    def entries(self, prefix: str) -> tuple[Entry, ...]:
        """Return what is under the keys that begin with `prefix`, by key."""
        found = []
        for key in self.list(prefix):
            with os_errors(self._root / key, "read"), suppress(FileNotFoundError):  # deleted meanwhile
                stat = (self._root / key).stat()
                found.append(Entry(key, stat.st_size, stat.st_mtime))
        return tuple(found)

    def delete(self, key: str) -> None:
        """Remove `key`; it need not exist."""
        path = self._path(key)
        with os_errors(path, "deleted"), suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
            path.unlink()

    def local_copy(self, key: str, *, suffix: str = "") -> AbstractContextManager[Path]:
        """Provide a private copy; see `Store.local_copy`."""
        return private_file(self.get(key), suffix=suffix)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """Provide a complete file that has reached the disk, in the file system of the store, to be moved or linked."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        path = self._temporary / uuid.uuid4().hex
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _remove_abandoned(self) -> None:
        """Remove what killed writers left behind long ago; younger files may belong to somebody at work."""
        with suppress(FileNotFoundError):
            for path in self._temporary.iterdir():
                with suppress(FileNotFoundError, PermissionError):  # another process cleans too, or owns it
                    if time.time() - path.stat().st_mtime > _ABANDONED_S:
                        path.unlink()


def _link(temporary: Path, path: Path) -> bool:
    """Give a finished file its name unless that exists: the file system decides, in one step."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as exc:
        if exc.errno not in _NO_HARD_LINKS:
            raise
        raise StoreError(
            f"{path}: cannot be written: this file system refuses hard links ({exc.strerror}), by which secateur"
            " makes sure that only one of two writers wins. Keep the store on another file system, or on S3."
        ) from exc
    return True


def _sync(folder: Path) -> None:
    """Bring a folder's entries to the disk: a power cut must not take back what was reported as written."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
