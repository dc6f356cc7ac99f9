"""Free what nothing in a store names any more.

Networks stand under ``objects/``, and two caches tell which network, or which latency, an equal trial had. Every other
document is somebody's, and what it names is kept: records, champions and their aliases, premises, analyses. A cached
network lives as long as one of its objects is named, a cached latency as long as a record of a study has it.

What is freed is chosen from what stood there at the beginning; whatever was written since then, stays. Caches go before
the objects that they name: killed at any moment, this leaves no document that names what is not there.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from secateur.errors import NotFoundError
from secateur.store.lease import RENEWAL_S
from secateur.store.protocol import Entry, Store

_OBJECTS, _NETWORKS, _LATENCIES = "objects/", "cache/compressed/", "cache/latency/"
COLLECTED = (_LATENCIES, _NETWORKS, _OBJECTS)
"""Where what nobody names is freed, in this order: what names before what is named."""

_NAMED = re.compile(rb"objects/[0-9a-f]{64}")
_DOCUMENTS = (".json", ".yaml")
_NUM_READERS = 8


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What nothing names, and what is named."""

    freed: tuple[Entry, ...]
    """In the order in which it may be deleted."""
    num_kept: int
    kept_bytes: int

    @property
    def freed_bytes(self) -> int:
        """Size of what nothing names."""
        return sum(entry.size_bytes for entry in self.freed)


def find_garbage(store: Store, used_latencies: Callable[[], Collection[str]]) -> Garbage:
    """Find out what may be freed; nothing is changed.

    Args:
        store: Nobody may run one of its studies meanwhile: see `CollectorLease`.
        used_latencies: Tells the keys of the cached latencies that records have.

    Raises:
        StoreError: A document cannot be read: then nothing may be freed.
    """
    found = [entry for prefix in COLLECTED for entry in store.entries(prefix)]  # before it is known who names them
    documents = [key for key in store.list("") if key.endswith(_DOCUMENTS) and not key.startswith(COLLECTED)]
    living = set().union(*_objects_in(store, documents), used_latencies())
    cached = [entry.key for entry in found if entry.key.startswith(_NETWORKS)]
    for key, named in zip(cached, _objects_in(store, cached), strict=True):
        if named & living:
            living |= {key} | named
    kept = [entry for entry in found if entry.key in living]
    return Garbage(
        freed=tuple(entry for entry in found if entry.key not in living),
        num_kept=len(kept),
        kept_bytes=sum(entry.size_bytes for entry in kept),
    )


def free(store: Store, garbage: Garbage, renew: Callable[[], None]) -> tuple[Entry, ...]:
    """Delete what was found; return what was deleted: not what was written again meanwhile.

    Args:
        store: As it was given to `find_garbage`, under the same lease.
        garbage: What that found.
        renew: Called before anything is deleted and every 20 s: raises if the store is no longer this process's.
    """
    deleted = []
    for prefix in COLLECTED:
        unchanged = set(store.entries(prefix)).intersection(garbage.freed)
        renewed_at = -math.inf  # listing may have taken long
        for entry in sorted(unchanged):
            if time.monotonic() - renewed_at > RENEWAL_S:
                renew()
                renewed_at = time.monotonic()
            store.delete(entry.key)
            deleted.append(entry)
    return tuple(deleted)


def _objects_in(store: Store, keys: Collection[str]) -> list[set[str]]:
    """Return for each document the keys of the objects that it names."""

    def named(key: str) -> set[str]:
        try:
            return {match.decode() for match in _NAMED.findall(store.get(key))}
        except NotFoundError:  # deleted meanwhile
            return set()

    with ThreadPoolExecutor(_NUM_READERS) as readers:
        return list(readers.map(named, keys))
