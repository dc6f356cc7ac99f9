from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from secateur.store.s3 import S3Store
from tests.s3_server import BUCKET_URL


@pytest.fixture
def s3_store(s3_endpoint: dict[str, str]) -> Iterator[S3Store]:
    store = S3Store(f"{BUCKET_URL}/{uuid.uuid4().hex}", s3_endpoint)
    yield store
    for key in store.list(""):
        store.delete(key)
