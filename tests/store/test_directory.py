from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from secateur.errors import NotFoundError, StoreError, StoreForbiddenError, StoreFullError
from secateur.store.directory import DirectoryStore

NUM_BYTES = 3_000_000

WRITE_FOR_EVER = f"""
import itertools, sys
from pathlib import Path
from secateur.store.directory import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]))
for number in itertools.count():
    store.put("key", bytes([number % 256]) * {NUM_BYTES})
    store.put(f"new/{{number}}", bytes([number % 256]) * {NUM_BYTES}, if_absent=True)
    print(number, flush=True)
    store.delete(f"new/{{number - 3}}")
"""


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


def test_opening_writes_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    assert store.list("") == []
    assert (store.url, repr(store)) == (str(tmp_path / "store"), f"DirectoryStore({str(tmp_path / 'store')!r})")
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("delay_s", [0.0, 0.05])
def test_killed_writer_leaves_whole_values_only(tmp_path: Path, delay_s: float) -> None:
    root = tmp_path / "store"
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, str(root)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
    store = DirectoryStore(root)
    assert store.list("") == ["key", *store.list("new/")]
    assert store.list("new/")
    for key in store.list(""):
        value = store.get(key)
        assert value == value[:1] * NUM_BYTES


def test_abandoned_temporary_files_are_removed_after_a_day(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("key", b"")
    old, young = (tmp_path / "store/.tmp" / name for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"half of something")
    os.utime(old, (time.time() - 90_000,) * 2)
    assert DirectoryStore(tmp_path / "store").list("") == ["key"]
    assert not old.exists()
    assert young.exists()


def test_no_temporary_file_stays(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("key", b"1")
    store.put("key", b"2", if_absent=True)
    store.put("key2", b"2", if_absent=True)
    assert list((tmp_path / "store/.tmp").iterdir()) == []


def test_full_disk(small_disk: Path) -> None:
    store = DirectoryStore(small_disk / "store")
    store.put("key", b"first")
    with pytest.raises(StoreFullError, match=r"store/key: cannot be written: No space left on device\. Free some"):
        store.put("key", b"x" * 2_000_000)
    with pytest.raises(StoreFullError, match=r"store/new: cannot be written: No space"):
        store.put("new", b"x" * 2_000_000, if_absent=True)
    assert store.get("key") == b"first"
    assert store.list("") == ["key"]
    assert store.put("key", b"x" * 500_000), "the failed writes' space is free again"


def test_read_only_disk(small_disk: Path) -> None:
    store = DirectoryStore(small_disk)
    store.put("key", b"first")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreForbiddenError, match=r"key: cannot be written: Read-only file system\. Check who owns"):
        store.put("key", b"second")
    with pytest.raises(StoreForbiddenError, match=r"key: cannot be deleted: Read-only"):
        store.delete("key")
    assert store.get("key") == b"first"


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, StoreFullError), (errno.EDQUOT, StoreFullError), (errno.EACCES, StoreForbiddenError)],
    ids=errno.errorcode.get,
)
def test_failing_fsync(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, code: int, error: type[StoreError]
) -> None:
    store.put("key", b"first")

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(error, match="store/key: cannot be written"):
        store.put("key", b"second")
    assert store.get("key") == b"first"


def test_file_system_without_hard_links(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert store.put("key", b"")
    with pytest.raises(StoreError, match=r"other: cannot be written: this file system refuses hard links .* or on S3"):
        store.put("other", b"", if_absent=True)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file: this is a file; name a directory"):
        DirectoryStore(tmp_path / "file")
    with pytest.raises(StoreError, match=r"file/below: cannot be opened: Not a directory"):
        DirectoryStore(tmp_path / "file/below")


def test_a_key_is_not_a_folder_too(store: DirectoryStore) -> None:
    store.put("a", b"")
    with pytest.raises(StoreError, match=r"a/b: cannot be written: .*Check that path"):
        store.put("a/b", b"")
    with pytest.raises(NotFoundError, match="'a/b'"):
        store.get("a/b")
    assert store.list("a/") == []


def test_others_may_read_what_the_umask_allows(store: DirectoryStore, tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        store.put("key", b"")
    finally:
        os.umask(umask)
    assert (tmp_path / "store/key").stat().st_mode & 0o777 == 0o644
