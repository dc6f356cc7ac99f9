from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from secateur.errors import NotFoundError, StoreError, StoreForbiddenError, StoreFullError, StoreUnavailableError
from secateur.store.s3 import S3Store
from tests.s3_server import BUCKET_URL

SECRETS = {"AWS_ACCESS_KEY_ID": "visible-to-nobody", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_REGION": "us-east-1"}
USES: dict[str, Callable[[S3Store], object]] = {
    "put": lambda store: store.put("key", b"data"),
    "put_if_absent": lambda store: store.put("key", b"data", if_absent=True),
    "get": lambda store: store.get("key"),
    "list": lambda store: store.list("prefix"),
    "delete": lambda store: store.delete("key"),
}
each_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


class Service:
    """An S3 service that answers every request alike, after `first` answers."""

    def __init__(self) -> None:
        self.status, self.body, self.content_type = 200, b"", "application/xml"
        self.first: list[int] = []
        self.requests: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                service.requests.append(self.command)
                self.send_response(service.first.pop(0) if service.first else service.status)
                self.send_header("Content-Type", service.content_type)
                self.send_header("Content-Length", str(len(service.body)))
                self.end_headers()
                self.wfile.write(service.body)

            do_GET = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def say(self, status: int, code: str) -> None:
        self.status = status
        self.body = f"<Error><Code>{code}</Code><Message>As the service says.</Message></Error>".encode()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield service
    service.server.shutdown()
    thread.join()
    service.server.server_close()


@pytest.fixture
def store(service: Service) -> S3Store:
    return S3Store("s3://bucket/prefix", {"SECATEUR_S3_ENDPOINT": service.endpoint, **SECRETS})


@pytest.mark.parametrize(
    ("status", "code", "error", "advice"),
    [
        (403, "AccessDenied", StoreForbiddenError, "what they are allowed in this bucket"),
        (403, "InvalidAccessKeyId", StoreForbiddenError, "Check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", StoreForbiddenError, "AWS_SECRET_ACCESS_KEY"),
        (403, "RequestTimeTooSkewed", StoreForbiddenError, "Set this host's clock right"),
        (507, "XMinioStorageFull", StoreFullError, "Free some space there"),
        (400, "QuotaExceeded", StoreFullError, "raise the quota"),
        (507, "Whatever", StoreFullError, "Free some space there"),
        (409, "OperationAborted", StoreUnavailableError, "Try again"),
        (501, "NotImplemented", StoreUnavailableError, "see the service's log"),
        (418, "Teapot", StoreError, r"As the service says\."),
    ],
)
@each_use
def test_refusals(
    service: Service,
    store: S3Store,
    use: Callable[[S3Store], object],
    status: int,
    code: str,
    error: type[StoreError],
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("secateur.store.s3._PAUSE_S", 0.0)
    service.say(status, code)
    with pytest.raises(error, match=rf"{service.endpoint}: cannot \w+ .* bucket 'bucket': {code}.*{advice}") as caught:
        use(store)
    assert caught.type is error


@each_use
def test_service_in_trouble_is_asked_again(service: Service, store: S3Store, use: Callable[[S3Store], object]) -> None:
    service.say(503, "SlowDown")
    with pytest.raises(StoreUnavailableError, match=r"SlowDown: As the service says\. Try again"):
        use(store)
    # A conditional write is not repeated: its first attempt may have succeeded.
    assert len(service.requests) == (1 if use is USES["put_if_absent"] else 3)


def test_trouble_that_passes_goes_unnoticed(service: Service, store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.store.s3._PAUSE_S", 0.0)
    service.first = [503, 500]
    assert store.put("key", b"data")
    service.first = [409, 409]
    service.body = b"<Error><Code>ConditionalRequestConflict</Code></Error>"
    assert store.put("key", b"data", if_absent=True)


@each_use
def test_something_else_answers(service: Service, store: S3Store, use: Callable[[S3Store], object]) -> None:
    service.status, service.content_type, service.body = 404, "text/html", b"<html><p>no such page"
    with pytest.raises(StoreUnavailableError, match=r"what answers there is no S3 service.*404.*SECATEUR_S3_ENDPOINT"):
        use(store)


@each_use
def test_nobody_listens(use: Callable[[S3Store], object]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=f"{endpoint}: .*cannot be reached .*Connection refused.* Start it"):
        use(S3Store("s3://bucket", {"SECATEUR_S3_ENDPOINT": endpoint, **SECRETS}))
    assert time.monotonic() - started < 3


@pytest.mark.slow
def test_packets_are_swallowed() -> None:
    """A listener whose queue is full lets connections hang, as a firewall or a host that is switched off does."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        endpoint = f"http://127.0.0.1:{full.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match=r"cannot be reached .*timed out"):
            S3Store("s3://bucket", {"SECATEUR_S3_ENDPOINT": endpoint, **SECRETS}).get("key")
        assert time.monotonic() - started < 10


def test_wrong_credentials(s3_endpoint: dict[str, str], s3_store: S3Store) -> None:
    s3_store.put("key", b"data")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        store = S3Store(s3_store.url, s3_endpoint | {name: "wrong-credentials"})
        for use in USES.values():
            with pytest.raises(
                StoreForbiddenError, match="Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) as caught:
                use(store)
            assert "wrong-credentials" not in str(caught.value)


def test_bucket_is_created_by_the_first_write(s3_endpoint: dict[str, str]) -> None:
    for if_absent in (False, True):
        store = S3Store(f"s3://secateur-test-{uuid.uuid4().hex}/prefix", s3_endpoint)
        assert store.list("") == []
        store.delete("key")
        with pytest.raises(NotFoundError, match=r"cannot read 'key' from bucket 'secateur-test-.*NoSuchBucket"):
            store.get("key")
        assert store.put("key", b"data", if_absent=if_absent)
        assert store.get("key") == b"data"
        store.delete("key")
        store._client.remove_bucket(store._bucket)


def test_bucket_may_not_be_created(service: Service, store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    service.say(404, "NoSuchBucket")

    def refuse(bucket: str) -> None:
        service.say(403, "AccessDenied")
        store._client.list_buckets()

    monkeypatch.setattr(store._client, "make_bucket", refuse)
    with pytest.raises(StoreForbiddenError, match="cannot create bucket 'bucket': AccessDenied"):
        store.put("key", b"data")


def test_prefixes_separate_stores(s3_endpoint: dict[str, str], s3_store: S3Store) -> None:
    neighbour = S3Store(f"{s3_store.url}-neighbour", s3_endpoint)
    neighbour.put("key", b"1")
    s3_store.put("key", b"2")
    assert s3_store.list("") == neighbour.list("") == ["key"]
    assert (neighbour.get("key"), s3_store.get("key")) == (b"1", b"2")
    neighbour.delete("key")
    assert s3_store.list("") == ["key"]
    assert BUCKET_URL in s3_store.url


@each_use
def test_credentials_are_shown_nowhere(
    service: Service, store: S3Store, use: Callable[[S3Store], object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for status in (403, 503):
        service.say(status, "AccessDenied")
        with pytest.raises(StoreError) as caught:
            use(store)
        text = str(caught.getrepr(chain=True, style="long", showlocals=False))
        assert "Signature=" not in text
        for secret in (SECRETS["AWS_SECRET_ACCESS_KEY"], SECRETS["AWS_ACCESS_KEY_ID"]):
            assert secret not in text
    warnings = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert not [message for message in warnings if "Signature" in message or SECRETS["AWS_ACCESS_KEY_ID"] in message]
    assert SECRETS["AWS_SECRET_ACCESS_KEY"] not in caplog.text
    for shown in (repr(store), str(store), store.url):
        assert SECRETS["AWS_ACCESS_KEY_ID"] not in shown
