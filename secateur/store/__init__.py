"""Where everything is kept that must outlive a process: objects by content, documents by name."""

from __future__ import annotations

import re
from pathlib import Path

from secateur.errors import InputError
from secateur.store.collector import COLLECTED, Garbage, find_garbage, free
from secateur.store.directory import DirectoryStore
from secateur.store.json_documents import get_json, put_json
from secateur.store.lease import RENEWAL_S, CollectorLease, Lease, StudyLease, read_lease
from secateur.store.objects import get_object, put_object
from secateur.store.protocol import Entry, Store
from secateur.store.s3 import S3Store
from secateur.store.study_files import Control, StudyFiles, list_studies

__all__ = [
    "COLLECTED",
    "RENEWAL_S",
    "CollectorLease",
    "Control",
    "Entry",
    "Garbage",
    "Lease",
    "Store",
    "StudyFiles",
    "StudyLease",
    "find_garbage",
    "free",
    "get_json",
    "get_object",
    "list_studies",
    "open_store",
    "put_json",
    "put_object",
    "read_lease",
]


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")


def open_store(url: str) -> Store:
    """Open a store; nothing is written, and nothing sent, before the first use.

    Args:
        url: A directory's path, or ``s3://bucket/prefix``. The service's address and the credentials then come from
            the environment: `SECATEUR_S3_ENDPOINT`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`.

    Raises:
        InputError: It is neither.
        StoreForbiddenError: There are no credentials, or the directory may not be read.
    """
    if url.startswith("s3://"):
        return S3Store(url)
    if not url or (scheme := _SCHEME.match(url)):
        got = f"a url that begins with {scheme[0]!r}" if url and scheme else "nothing"
        raise InputError(f"store: expected the path of a directory, or s3://bucket/prefix, got {got}.")
    return DirectoryStore(Path(url).expanduser())
