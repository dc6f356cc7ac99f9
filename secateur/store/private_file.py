"""Bytes as a file of one's own: what `Store.local_copy` gives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.store.os_errors import os_errors


@contextmanager
def private_file(data: bytes, *, suffix: str) -> Iterator[Path]:
    """Provide `data` as a temporary file whose name ends in `suffix`; nobody else sees what is done to it."""
    with tempfile.TemporaryDirectory(prefix="secateur-", ignore_cleanup_errors=True) as folder:
        path = Path(folder, f"content{suffix}")
        with os_errors(path, "written"):
            path.write_bytes(data)
        yield path
