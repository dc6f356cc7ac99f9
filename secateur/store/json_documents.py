"""Documents: JSON objects under a name, overwritten as a whole."""

from __future__ import annotations

import json
from typing import Any

from secateur.errors import StoreError
from secateur.store.protocol import Store


def put_json(store: Store, key: str, value: dict[str, Any]) -> None:
    """Write a document. NaN and infinities come back as they are: Python reads what it writes."""
    store.put(key, json.dumps(value, indent=1).encode())


def get_json(store: Store, key: str) -> dict[str, Any]:
    """Read a document.

    Raises:
        NotFoundError: There is none.
        StoreError: It is not JSON, or no object.
    """
    try:
        value = json.loads(store.get(key))
    except (ValueError, RecursionError) as exc:
        raise StoreError(f"{store.url}: {key!r} is not JSON: {exc}. Restore it, or delete it.") from None
    if not isinstance(value, dict):
        raise StoreError(f"{store.url}: {key!r} holds a JSON {type(value).__name__}, expected an object.")
    return value
