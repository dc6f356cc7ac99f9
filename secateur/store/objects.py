"""Objects: bytes under a key made from them, never changed."""

from __future__ import annotations

import hashlib
import re

from secateur.errors import InputError, StoreError
from secateur.store.protocol import Store

_KEY = re.compile(r"objects/([0-9a-f]{64})")


def put_object(store: Store, data: bytes) -> str:
    """Keep `data` under a key made from its content; return that key, which never means anything else.

    Repeating it costs little and changes nothing.
    """
    key = f"objects/{hashlib.sha256(data).hexdigest()}"
    store.put(key, data, if_absent=True)
    return key


def get_object(store: Store, key: str) -> bytes:
    """Read what `put_object` wrote.

    Raises:
        NotFoundError: There is nothing under `key`.
        StoreError: The content is no longer what was written.
        InputError: `key` is not of the form ``objects/<sha256>``.
    """
    if not (match := _KEY.fullmatch(key)):
        raise InputError(f"{key!r} is no object's key; expected 'objects/<sha256>'.")
    data = store.get(key)
    if (found := hashlib.sha256(data).hexdigest()) != match[1]:
        raise StoreError(
            f"{store.url}: {key!r} is damaged: its content has the sha256 {found} ({len(data)} bytes)."
            " Delete it and run the same command again, which makes it anew."
        )
    return data
