"""What every store does: run against all of them."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secateur.errors import InputError, NotFoundError, StoreError
from secateur.store import Store, put_object
from secateur.store.directory import DirectoryStore
from tests.fakes import FailingStore, MemoryStore


@pytest.fixture(params=["directory", "s3", "memory", "failing"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    match request.param:
        case "directory":
            return DirectoryStore(tmp_path / "store")
        case "s3":
            return request.getfixturevalue("s3_store")
        case "memory":
            return MemoryStore()
        case _:
            return FailingStore(MemoryStore())


def folder() -> str:
    """Return a folder of its own for each example of a property: the store is the same for all."""
    return uuid.uuid4().hex


# Segments end in a digit, keys in a letter: so no key is the folder of another, which directories exclude.
segments = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="/\\"), max_size=12).map(
    lambda text: f"{text}0"
)
keys = st.lists(segments, min_size=1, max_size=3).map(lambda parts: "/".join(parts) + "k")
laws = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@laws
@given(key=keys, values=st.lists(st.binary(max_size=2000), min_size=1, max_size=3))
def test_get_returns_what_was_put_last(store: Store, key: str, values: list[bytes]) -> None:
    key = f"{folder()}/{key}"
    for value in values:
        assert store.put(key, value)
        assert store.get(key) == value


@laws
@given(key=keys, values=st.lists(st.binary(max_size=100), min_size=2, max_size=3))
def test_first_of_several_writers_if_absent_wins(store: Store, key: str, values: list[bytes]) -> None:
    key = f"{folder()}/{key}"
    assert [store.put(key, value, if_absent=True) for value in values] == [True] + [False] * (len(values) - 1)
    assert store.get(key) == values[0]
    store.delete(key)
    assert store.put(key, values[1], if_absent=True)


@laws
@given(names=st.sets(keys, max_size=6), data=st.data())
def test_list_returns_the_keys_with_a_prefix(store: Store, names: set[str], data: st.DataObject) -> None:
    root = folder()
    for name in names:
        store.put(f"{root}/{name}", b"")
    for name in data.draw(st.sets(st.sampled_from(sorted(names)))) if names else ():
        store.delete(f"{root}/{name}")
        names = names - {name}
    prefixes = sorted({name[:length] for name in names for length in range(len(name))} | {""})
    prefix = data.draw(st.sampled_from(prefixes).filter(lambda p: not p.endswith(("/.", "/.."))))
    expected = sorted(f"{root}/{name}" for name in names if name.startswith(prefix))
    assert store.list(f"{root}/{prefix}") == expected


def test_of_8_threads_exactly_one_writes_if_absent(store: Store) -> None:
    barrier = Barrier(8)

    def write(number: int) -> bool:
        barrier.wait()
        return store.put("race", bytes([number]) * 1000, if_absent=True)

    with ThreadPoolExecutor(8) as threads:
        written = list(threads.map(write, range(8)))
    assert sum(written) == 1
    assert store.get("race") == bytes([written.index(True)]) * 1000


def test_readers_see_whole_values_while_writers_overwrite(store: Store) -> None:
    values = [bytes([letter]) * 200_000 for letter in b"ab"]
    store.put("key", values[0])

    def overwrite(number: int) -> None:
        for _ in range(8):
            store.put("key", values[number % 2])

    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(overwrite, number) for number in range(2)]
        while not all(writer.done() for writer in writers):
            assert store.get("key") in values
        for writer in writers:
            writer.result()


def test_objects_of_many_megabytes(store: Store) -> None:
    data = bytes(range(256)) * 50_000  # 12.8 MB: several parts of a multipart upload
    store.put("plain", data)
    key = put_object(store, data)
    assert store.get("plain") == store.get(key) == data


@pytest.mark.slow
def test_list_goes_beyond_one_page(store: Store) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: store.put(f"many/{number:04}", b""), range(1005)))
    assert store.list("many/") == [f"many/{number:04}" for number in range(1005)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(store.delete, store.list("many/")))


def test_absent_keys(store: Store) -> None:
    store.put("folder/key", b"")
    for key in ("absent", "folder", "folder/key2"):
        with pytest.raises(NotFoundError, match=f"'{key}'"):
            store.get(key)
        with pytest.raises(NotFoundError, match=f"'{key}'"), store.local_copy(key):
            pass
        store.delete(key)
    assert store.list("absent/") == []
    assert store.list("") == ["folder/key"]


def test_local_copy_is_private(store: Store) -> None:
    store.put("models/a", b"weights")
    with store.local_copy("models/a", suffix=".onnx") as path:
        assert path.name.endswith(".onnx")
        assert path.read_bytes() == b"weights"
        path.write_bytes(b"scribbled over")
    assert not path.exists()
    assert store.get("models/a") == b"weights"


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("", "it is empty"),
        ("/etc/passwd", "it is absolute"),
        ("../outside", "lead elsewhere"),
        ("a/../../outside", "lead elsewhere"),
        ("a/./b", "lead elsewhere"),
        ("a//b", "nothing between two slashes"),
        ("a/", "nothing between two slashes"),
        ("a\\..\\b", "backslash"),
        ("a\nb", "cannot be printed"),
        ("a\0b", "cannot be printed"),
        ("a\udc80", "cannot be printed"),
        (".tmp/a", "unfinished writes"),
        ("a" * 256, "at most 1024 bytes are allowed, and 255"),
        ("/".join(["ä" * 100] * 6), "at most 1024 bytes"),
    ],
    ids=ascii,
)
def test_keys_cannot_leave_the_store(store: Store, tmp_path: Path, key: str, problem: str) -> None:
    for use in (lambda: store.put(key, b""), lambda: store.get(key), lambda: store.delete(key)):
        with pytest.raises(InputError, match=f"cannot be a key of a store: .*{problem}"):
            use()
    if key.rstrip("/") == key != "":
        with pytest.raises(InputError, match=problem):
            store.list(key)
    assert not (tmp_path / "outside").exists()


def test_failures_are_injected_once_at_the_nth_call() -> None:
    failing = FailingStore(MemoryStore(), method="put", at=2, error=StoreError("no"))
    failing.put("a", b"1")
    with pytest.raises(StoreError, match="no"):
        failing.put("b", b"2")
    failing.put("b", b"3")
    assert failing.list("") == ["a", "b"]
    assert failing.calls == {"put": 3, "list": 1}
