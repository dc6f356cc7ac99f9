"""A store in a bucket of any S3 service: Amazon's, MinIO, SeaweedFS.

The bucket is created by the first write, if it is absent and the credentials permit it.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from minio.error import S3Error

from secateur.errors import NotFoundError
from secateur.store.keys import check_key, check_prefix
from secateur.store.private_file import private_file
from secateur.store.protocol import Entry
from secateur.store.s3_client import connect, endpoint_of, parse_url
from secateur.store.s3_errors import raise_for_status, s3_errors

_PRECONDITION_FAILED = 412
_CONFLICT = 409
_SIGNATURE_LIFE = timedelta(minutes=5)
_MAX_ATTEMPTS = 5
_PAUSE_S = 0.2


class S3Store:
    """Keys are object names below ``s3://bucket/prefix``."""

    def __init__(self, url: str, environ: Mapping[str, str] = os.environ) -> None:
        self._url = url
        self._bucket, self._prefix = parse_url(url)
        self._endpoint = endpoint_of(environ)
        self._client, self._http = connect(environ)

    def __repr__(self) -> str:
        return f"S3Store({self._url!r})"

    @property
    def url(self) -> str:
        """As given: ``s3://bucket/prefix``."""
        return self._url

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write `data`, atomically; see `Store.put`."""
        check_key(key)
        write = self._put_if_absent if if_absent else self._put
        with self._errors(f"write {key!r} to"):
            try:
                return write(self._prefix + key, data)
            except S3Error as exc:
                if exc.code != "NoSuchBucket":
                    raise
        self._make_bucket()
        with self._errors(f"write {key!r} to"):
            return write(self._prefix + key, data)

    def get(self, key: str) -> bytes:
        """Read what is under `key`; see `Store.get`."""
        check_key(key)
        with self._errors(f"read {key!r} from"):
            response = self._client.get_object(self._bucket, self._prefix + key)
            try:
                return response.read()
            finally:
                response.close()
                response.release_conn()

    def list(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`, sorted."""
        return [entry.key for entry in self.entries(prefix)]

    def entries(self, prefix: str) -> tuple[Entry, ...]:
        """Return what is under the keys that begin with `prefix`, by key."""
        check_prefix(prefix)
        with suppress(NotFoundError), self._errors(f"list {prefix!r} in"):
            objects = self._client.list_objects(self._bucket, prefix=self._prefix + prefix, recursive=True)
            return tuple(sorted(self._entry(found) for found in objects if not found.is_dir))
        return ()  # there is no bucket yet

    def _entry(self, found: Any) -> Entry:
        modified_at = 0.0 if found.last_modified is None else found.last_modified.timestamp()
        return Entry((found.object_name or "").removeprefix(self._prefix), found.size or 0, modified_at)

    def delete(self, key: str) -> None:
        """Remove `key`; it need not exist."""
        check_key(key)
        with suppress(NotFoundError), self._errors(f"delete {key!r} from"):
            self._client.remove_object(self._bucket, self._prefix + key)

    def local_copy(self, key: str, *, suffix: str = "") -> AbstractContextManager[Path]:
        """Provide a private copy; see `Store.local_copy`."""
        return private_file(self.get(key), suffix=suffix)

    def _put(self, name: str, data: bytes) -> bool:
        self._client.put_object(self._bucket, name, io.BytesIO(data), len(data))
        return True

    def _put_if_absent(self, name: str, data: bytes) -> bool:
        """Write under a condition that the service checks; the SDK has none, but signs the request."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            url = self._client.get_presigned_url("PUT", self._bucket, name, expires=_SIGNATURE_LIFE)
            # Without urllib3's retries: one after a lost answer would find the object, and take it for another
            # writer's; and it would log the url, which holds the signature.
            response = self._http.request("PUT", url, body=data, headers={"If-None-Match": "*"}, retries=False)
            if response.status == _PRECONDITION_FAILED:
                return False
            if response.status != _CONFLICT or attempt == _MAX_ATTEMPTS:
                break
            time.sleep(_PAUSE_S * attempt)  # Amazon: another conditional write is under way, the winner unknown yet
        raise_for_status(response)
        return True

    def _make_bucket(self) -> None:
        with self._errors("create"):
            try:
                self._client.make_bucket(self._bucket)
            except S3Error as exc:
                if exc.code not in {"BucketAlreadyExists", "BucketAlreadyOwnedByYou"}:  # another writer was faster
                    raise

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        with s3_errors(self._endpoint, f"{action} bucket {self._bucket!r}"):
            yield
