"""What the operating system refuses, in this package's words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.errors import StoreError, StoreForbiddenError, StoreFullError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def os_errors(path: Path, done: str) -> Iterator[None]:
    """Turn an `OSError` into a `StoreError` that names `path` and what could not be `done` to it.

    Raises:
        StoreFullError: There is no space left, or a quota is used up.
        StoreForbiddenError: The file system or its permissions forbid it.
        StoreError: Anything else.
    """
    try:
        yield
    except OSError as exc:
        problem = f"{path}: cannot be {done}: {exc.strerror}."
        if exc.errno in _FULL:
            raise StoreFullError(f"{problem} Free some space there, or choose another store.") from exc
        if exc.errno in _FORBIDDEN:
            raise StoreForbiddenError(f"{problem} Check who owns it and its mount, or choose another store.") from exc
        raise StoreError(f"{problem} Check that path, or choose another store.") from exc
