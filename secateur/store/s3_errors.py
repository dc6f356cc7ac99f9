"""What an S3 service or the way to it refuses, in this package's words.

Nothing here quotes a url or a request: those of signed requests hold credentials. For the same reason errors are
raised `from None`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from xml.etree.ElementTree import ParseError

from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, MaxRetryError

from secateur.errors import NotFoundError, StoreError, StoreForbiddenError, StoreFullError, StoreUnavailableError

_ABSENT = {"NoSuchBucket", "NoSuchKey"}
_FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull"}
_FORBIDDEN = {
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_BUSY = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown"}
_INSUFFICIENT_STORAGE = 507  # RFC 4918, section 11.5


@contextmanager
def s3_errors(endpoint: str, action: str) -> Iterator[None]:
    """Turn what the SDK raises into a `StoreError` that says which `action` failed at which `endpoint`.

    Raises:
        NotFoundError: There is no such key, or no such bucket.
        StoreForbiddenError: The credentials are wrong, or do not suffice.
        StoreFullError: There is no space left, or a quota is used up.
        StoreUnavailableError: There is no answer, or one of a service in trouble.
        StoreError: Anything else.
    """
    try:
        yield
    except S3Error as exc:
        raise _from_s3(exc, f"{endpoint}: cannot {action}") from None
    except (ServerError, InvalidResponseError) as exc:
        raise StoreUnavailableError(
            f"{endpoint}: cannot {action}: what answers there is no S3 service, or one in trouble"
            f" ({_first_line(exc)}). Check SECATEUR_S3_ENDPOINT, and the service's log."
        ) from None
    except HTTPError as exc:
        reason = exc.reason if isinstance(exc, MaxRetryError) else exc
        raise StoreUnavailableError(
            f"{endpoint}: cannot {action}: the service cannot be reached ({_first_line(reason)})."
            " Start it, or set SECATEUR_S3_ENDPOINT to where it is."
        ) from None
    except MinioException as exc:
        raise StoreError(f"{endpoint}: cannot {action}: {_first_line(exc)}.") from None


def raise_for_status(response: BaseHTTPResponse) -> None:
    """Raise what the SDK would raise if it had made the request that `response` answers."""
    if response.status < 300:
        return
    try:
        raise S3Error.fromxml(response)
    except (ParseError, UnicodeDecodeError):
        raise InvalidResponseError(response.status, response.headers.get("content-type"), None) from None


def _from_s3(exc: S3Error, problem: str) -> StoreError:
    said = f"{problem}: {exc.code}: {(exc.message or 'no reason given').rstrip('.')}."
    status = exc.response.status
    if exc.code in _ABSENT:
        return NotFoundError(said)
    if exc.code in _FULL or status == _INSUFFICIENT_STORAGE:
        return StoreFullError(f"{said} Free some space there or raise the quota, or choose another store.")
    if exc.code == "RequestTimeTooSkewed":
        return StoreForbiddenError(f"{said} Set this host's clock right.")
    if exc.code in _FORBIDDEN:
        return StoreForbiddenError(
            f"{said} Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they are allowed in this bucket."
        )
    if exc.code in _BUSY or status >= 500:
        return StoreUnavailableError(
            f"{said} Try again; if that does not help, see the service's log: is its disk full?"
        )
    return StoreError(said)


def _first_line(error: Exception | None) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")[:200]
