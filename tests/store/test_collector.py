"""Garbage is found and freed in every store; what is named, or came later, stays; killed, it leaves a whole store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secateur.errors import StoreError, StudyBusyError
from secateur.store import Store, StudyLease, find_garbage, free, put_json, put_object
from secateur.store.collector import Garbage
from secateur.store.directory import DirectoryStore
from secateur.store.lease import CollectorLease
from tests.fakes import FailingStore, MemoryStore
from tests.store.test_lease import ELSEWHERE, change, seconds_from_now, silent_for_too_long

LATENCIES = ("cache/latency/used.json", "cache/latency/unused.json")


@pytest.fixture(params=["directory", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    match request.param:
        case "directory":
            return DirectoryStore(tmp_path)
        case "s3":
            return request.getfixturevalue("s3_store")
        case _:
            return MemoryStore()


def fill(store: Store) -> tuple[set[str], set[str]]:
    """Write what is named and what is not; return the keys of both."""
    named = {put_object(store, content) for content in (b"trial", b"champion", b"premise", b"analysis")}
    trial, champion, premise, analysis = (
        put_object(store, c) for c in (b"trial", b"champion", b"premise", b"analysis")
    )
    lost, half = put_object(store, b"lost"), put_object(store, b"only in the cache")
    put_json(store, "studies/a/trials/0.json", {"compressed": {"onnx": trial}})
    put_json(store, "studies/a/aliases/champion.json", {"history": [{"record": {"checkpoint": champion}}]})
    put_json(store, "premises/cpu.json", {"networks": [premise]})
    put_json(store, "cache/sensitivity/x.json", {"unpruned": analysis})
    store.put("studies/a/study.yaml", b"name: a")
    put_json(store, "cache/compressed/living.json", {"onnx": trial, "checkpoint": half})
    put_json(store, "cache/compressed/dead.json", {"onnx": lost})
    for key in LATENCIES:
        put_json(store, key, {})
    return named | {half, "cache/compressed/living.json", LATENCIES[0]}, {
        lost,
        "cache/compressed/dead.json",
        LATENCIES[1],
    }


def find(store: Store) -> Garbage:
    return find_garbage(store, lambda: LATENCIES[:1])


def test_what_nothing_names_is_freed_and_nothing_else(store: Store) -> None:
    kept, lost = fill(store)
    before = store.list("")
    garbage = find(store)
    assert store.list("") == before
    assert {entry.key for entry in garbage.freed} == lost
    assert garbage.num_kept == len(kept)
    assert garbage.freed_bytes == sum(len(store.get(key)) for key in lost)
    assert garbage.kept_bytes == sum(len(store.get(key)) for key in kept)
    assert {entry.key for entry in free(store, garbage, lambda: None)} == lost
    assert store.list("") == sorted(set(before) - lost)
    assert find(store).freed == ()


def test_what_was_written_after_it_began_stays(store: Store) -> None:
    _, lost = fill(store)
    garbage = find(store)
    later = put_object(store, b"written later, named by nobody yet")
    store.put("cache/compressed/dead.json", b'{"written": "again"}')
    deleted = {entry.key for entry in free(store, garbage, lambda: None)}
    assert deleted == lost - {"cache/compressed/dead.json"}
    assert store.get(later)
    assert json.loads(store.get("cache/compressed/dead.json")) == {"written": "again"}


@pytest.mark.parametrize("at", [1, 2, 3])
def test_killed_in_the_middle_it_leaves_a_whole_store(at: int) -> None:
    inner = MemoryStore()
    kept, lost = fill(inner)
    failing = FailingStore(inner, method="delete", at=at, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        free(failing, find(failing), lambda: None)
    assert kept <= set(inner.list(""))
    for key in inner.list("cache/compressed/"):
        assert set(json.loads(inner.get(key)).values()) <= set(inner.list(""))
    free(inner, find(inner), lambda: None)
    assert not lost & set(inner.list(""))


def test_a_document_that_cannot_be_read_frees_nothing() -> None:
    inner = MemoryStore()
    fill(inner)
    with pytest.raises(StoreError, match="away"):
        find(FailingStore(inner, method="get", at=2, error=StoreError("away")))


def test_before_anything_is_deleted_the_lease_is_renewed() -> None:
    store, renewed = MemoryStore(), []
    fill(store)
    free(store, find(store), lambda: renewed.append(1))
    assert len(renewed) == 3  # before the first of each kind


def test_who_lost_the_lease_deletes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    fill(store)
    lease = CollectorLease(store)
    silent_for_too_long(lease, monkeypatch)
    StudyLease(store, "demo").acquire()
    keys = store.list("")
    with pytest.raises(StudyBusyError):
        free(store, find(store), lease.renew)
    assert store.list("") == [key for key in keys if key != "gc/lease.json"]


# --- who excludes whom


def test_a_study_that_was_silent_gives_way_to_the_collector(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StudyLease(store, "demo")
    silent_for_too_long(study, monkeypatch)
    CollectorLease(store).acquire()
    for _ in range(2):
        with pytest.raises(StudyBusyError):
            study.renew()
    assert store.list("studies/") == []


def test_a_study_that_runs_keeps_the_collector_away(store: Store) -> None:
    StudyLease(store, "demo").acquire()
    change(store, **ELSEWHERE)
    with pytest.raises(
        StudyBusyError, match=r"study 'demo' is being run by process 4711 on 'edge-7' \(trial 3 of 16\)"
    ):
        CollectorLease(store).acquire()
    assert store.list("gc/") == []
    change(store, expires_at=seconds_from_now(-1))
    CollectorLease(store).acquire()


def test_the_collector_keeps_studies_away_and_gives_them_back(store: Store) -> None:
    collector = CollectorLease(store)
    collector.acquire()
    with pytest.raises(StudyBusyError, match=r"study 'new' cannot be run: process \d+ on .* is cleaning the store"):
        StudyLease(store, "new").acquire()
    assert store.list("studies/") == []
    with pytest.raises(StudyBusyError, match=r"is being cleaned by process \d+ on .* its claim ends at"):
        CollectorLease(store).acquire()
    collector.renew()
    collector.release()
    StudyLease(store, "new").acquire()
