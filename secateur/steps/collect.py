"""Clean a store: which cached latencies are still used is told by the records of its studies."""

from __future__ import annotations

from secateur.results import UNPRUNED
from secateur.steps.measure import latency_key
from secateur.steps.source import stored_study
from secateur.store import CollectorLease, Garbage, Store, StudyFiles, find_garbage, free, list_studies


def collect(store: Store, *, is_real: bool) -> Garbage:
    """Find what nothing in a store names any more, and free it.

    Args:
        store: Whichever; nobody may run one of its studies meanwhile.
        is_real: False: only find it.

    Returns:
        What was freed, or would be; and how much is kept.

    Raises:
        StudyBusyError: Somebody runs a study, or cleans the store already.
        StoreError: A document cannot be read: nothing was freed then.
    """
    with CollectorLease(store).held() as lease:
        garbage = find_garbage(store, lambda: _used_latencies(store))
        if is_real:
            free(store, garbage, lease.renew)
        return garbage


def _used_latencies(store: Store) -> set[str]:
    """Return the keys of the cached latencies that records have."""
    return {key for name in list_studies(store) for key in _latencies_of(StudyFiles(store, name))}


def _latencies_of(files: StudyFiles) -> set[str]:
    baselines, profile = files.baselines(), stored_study(files).device
    unpruned = baselines[UNPRUNED].compressed if UNPRUNED in baselines else None
    if unpruned is None:
        return set()
    return {
        latency_key(record.compressed.architecture, unpruned.architecture, profile, record.latency.device)
        for record in (*baselines.values(), *files.trials())
        if record.compressed is not None and record.latency is not None
    }
