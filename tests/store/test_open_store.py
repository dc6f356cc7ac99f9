from __future__ import annotations

from pathlib import Path

import pytest

from secateur.errors import InputError, NotFoundError, StoreError, StoreForbiddenError
from secateur.store import get_json, get_object, open_store, put_json, put_object
from secateur.store.directory import DirectoryStore
from secateur.store.s3 import S3Store
from tests.fakes import MemoryStore

ENVIRONMENT = {
    "SECATEUR_S3_ENDPOINT": "http://127.0.0.1:1",
    "AWS_ACCESS_KEY_ID": "an-access-key",
    "AWS_SECRET_ACCESS_KEY": "a-secret-key",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


def test_paths_are_directories(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for url in (str(tmp_path / "runs/.store"), "runs/a:b", "~/store"):
        store = open_store(url)
        assert isinstance(store, DirectoryStore)
        assert store.url == str(Path(url).expanduser())


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3://bucket/some/prefix"])
def test_s3(environment: pytest.MonkeyPatch, url: str) -> None:
    store = open_store(url)
    assert isinstance(store, S3Store)
    assert store.url == url


@pytest.mark.parametrize("url", ["", "http://user:hidden@host/bucket", "gs://bucket", "file:///tmp/x", "S3://bucket"])
def test_other_urls(url: str) -> None:
    with pytest.raises(InputError, match=r"expected the path of a directory, or s3://bucket/prefix, got") as caught:
        open_store(url)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["s3://", "s3://Bucket", "s3://ab", "s3://key:hidden@bucket/x", "s3://bucket?hidden"], ids=ascii
)
def test_no_buckets(environment: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(InputError, match=r"must be s3://bucket or s3://bucket/prefix.* without credentials") as caught:
        open_store(url)
    assert "hidden" not in str(caught.value)


def test_prefix_is_checked(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'a/../b' cannot be a key"):
        open_store("s3://bucket/a/../b")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "ftp://host", "http://", "http://host:9000/path"])
def test_endpoint_is_checked(environment: pytest.MonkeyPatch, endpoint: str) -> None:
    environment.setenv("SECATEUR_S3_ENDPOINT", endpoint)
    with pytest.raises(InputError, match=f"expected an address such as http://127.0.0.1:9000, got '{endpoint}'"):
        open_store("s3://bucket")


def test_endpoint_holds_no_credentials(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SECATEUR_S3_ENDPOINT", "http://key:hidden@host")
    with pytest.raises(InputError, match="must hold no credentials") as caught:
        open_store("s3://bucket")
    assert "hidden" not in str(caught.value)


def test_no_credentials(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreForbiddenError, match="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_store("s3://bucket")
    environment.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(StoreForbiddenError, match=r"or write ~/\.aws/credentials"):
        open_store("s3://bucket")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    assert isinstance(open_store("s3://bucket"), S3Store)


def test_objects_are_named_by_their_content() -> None:
    store = MemoryStore()
    key = put_object(store, b"abc")
    assert key == "objects/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-4, appendix B.1
    assert put_object(store, b"abc") == key
    assert store.list("") == [key]
    assert get_object(store, key) == b"abc"


def test_damaged_objects_are_noticed() -> None:
    store = MemoryStore()
    key = put_object(store, b"abc")
    store.put(key, b"abd")
    with pytest.raises(StoreError, match=rf"memory: '{key}' is damaged: .*\(3 bytes\).* Delete it"):
        get_object(store, key)
    with pytest.raises(InputError, match=r"'studies/x' is no object's key; expected 'objects/<sha256>'"):
        get_object(store, "studies/x")
    store.delete(key)
    with pytest.raises(NotFoundError, match=key):
        get_object(store, key)


def test_documents() -> None:
    store = MemoryStore()
    value = {"a": [1, 2.5, None, True], "ü": {"nested": float("inf")}}
    put_json(store, "doc", value)
    assert get_json(store, "doc") == value


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"{", "is not JSON: Expecting property name"),
        (b"", "is not JSON: Expecting value"),
        (b"\xff", "is not JSON: 'utf-8' codec"),
        (b"[" * 100_000, "is not JSON: maximum recursion"),
        (b"[1]", "holds a JSON list, expected an object"),
    ],
    ids=["broken", "empty", "binary", "deep", "list"],
)
def test_broken_documents(data: bytes, problem: str) -> None:
    store = MemoryStore()
    store.put("studies/x/ax.json", data)
    with pytest.raises(StoreError, match=f"memory: 'studies/x/ax.json' {problem}"):
        get_json(store, "studies/x/ax.json")
