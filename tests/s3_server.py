"""A real S3 service for tests: SeaweedFS on loopback, or the one that the environment names.

`SECATEUR_TEST_S3_ENDPOINT`, with the AWS_* variables, names another: a MinIO, for example. The tests create the bucket
`secateur-test` there, and remove what they wrote into it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.store.local_s3 import LocalS3
from secateur.store.s3_client import ENDPOINT

BUCKET_URL = "s3://secateur-test"


@contextmanager
def s3_service(data_dir: Path) -> Iterator[dict[str, str]]:
    """Provide the environment variables by which `open_store` reaches the service."""
    if endpoint := os.environ.get("SECATEUR_TEST_S3_ENDPOINT"):
        credentials = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        yield {ENDPOINT: endpoint, **credentials}
        return
    with LocalS3(data_dir) as service:
        yield service.environment
