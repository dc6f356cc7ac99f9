"""The way to an S3 service: address and credentials from the environment, patience of seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials.providers import AWSConfigProvider, Provider, StaticProvider

from secateur.errors import InputError, StoreError, StoreForbiddenError
from secateur.store.keys import check_key
from secateur.store.s3_errors import s3_errors

ENDPOINT = "SECATEUR_S3_ENDPOINT"
ACCESS_KEY = "AWS_ACCESS_KEY_ID"
SECRET_KEY = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 (a variable's name)

_AMAZON = "https://s3.amazonaws.com"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NUM_CONNECTIONS = 16
# An endpoint that swallows packets is given up after 3 attempts of 2.5 s and pauses of 0.6 s in all.
_TIMEOUT = urllib3.Timeout(connect=2.5, read=15.0)
_GLANCE = urllib3.Timeout(1.0)
_RETRY = urllib3.Retry(
    total=2, read=1, backoff_factor=0.2, status_forcelist=(500, 502, 503, 504), raise_on_status=False
)


def parse_url(url: str) -> tuple[str, str]:
    """Split ``s3://bucket/prefix`` into the bucket and what every key begins with: nothing, or ``prefix/``.

    Raises:
        InputError: It is no such url; the text does not repeat it, since it may hold credentials.
    """
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InputError(
            "the store's url must be s3://bucket or s3://bucket/prefix, the bucket being 3 to 63 small letters, digits,"
            f" dots and dashes, without credentials (they belong into {ACCESS_KEY} and {SECRET_KEY})."
        )
    prefix = prefix.strip("/")
    if not prefix:
        return bucket, ""
    check_key(prefix)
    return bucket, f"{prefix}/"


def endpoint_of(environ: Mapping[str, str]) -> str:
    """Return the service's address, such as ``http://127.0.0.1:9000``; by default Amazon's.

    Raises:
        InputError: What the environment says is none.
    """
    endpoint = environ.get(ENDPOINT) or _AMAZON
    parts = urlsplit(endpoint)
    if "@" in endpoint:
        raise InputError(f"{ENDPOINT} must hold no credentials; put them into {ACCESS_KEY} and {SECRET_KEY}.")
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.path.strip("/") or parts.query:
        raise InputError(f"{ENDPOINT}: expected an address such as http://127.0.0.1:9000, got {endpoint!r}.")
    return endpoint.rstrip("/")


def connect(environ: Mapping[str, str]) -> tuple[Minio, urllib3.PoolManager]:
    """Return a client, and the connections it uses; nothing is sent yet.

    Raises:
        InputError: The endpoint is no address.
        StoreForbiddenError: There are no credentials.
    """
    http = urllib3.PoolManager(maxsize=_NUM_CONNECTIONS, timeout=_TIMEOUT, retries=_RETRY)
    return _client(environ, http), http


def is_ready(environ: Mapping[str, str]) -> bool:
    """Tell, after a glance, whether the service that the environment names answers and knows these credentials."""
    client = _client(environ, urllib3.PoolManager(timeout=_GLANCE, retries=False))
    with suppress(StoreError), s3_errors(endpoint_of(environ), "list buckets"):
        client.list_buckets()
        return True
    return False


def _client(environ: Mapping[str, str], http: urllib3.PoolManager) -> Minio:
    parts = urlsplit(endpoint_of(environ))
    return Minio(
        parts.netloc,
        secure=parts.scheme == "https",
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION"),  # None: the SDK asks the service
        credentials=_credentials(environ),
        http_client=http,
    )


def _credentials(environ: Mapping[str, str]) -> Provider:
    try:
        if environ.get(ACCESS_KEY) or environ.get(SECRET_KEY):
            return StaticProvider(
                environ.get(ACCESS_KEY, ""), environ.get(SECRET_KEY, ""), environ.get("AWS_SESSION_TOKEN")
            )
        provider = AWSConfigProvider()
        provider.retrieve()
    except ValueError:
        raise StoreForbiddenError(
            f"there are no credentials for the S3 store: set {ACCESS_KEY} and {SECRET_KEY},"
            " or write ~/.aws/credentials (AWS_PROFILE chooses one of its profiles)."
        ) from None
    return provider
