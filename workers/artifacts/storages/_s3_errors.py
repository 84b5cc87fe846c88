"""Interpret errors of S3, boto3 or the network: whether the same request may succeed later, and what helps."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
    SSLError,
    SSOError,
)  # fmt: skip
from botocore.exceptions import (
    ConnectionError as ServerUnreachable,
)

SKEWED = "RequestTimeTooSkewed"
SKEW_S = 15 * 60.0
"""Most seconds between the time of a signature and the server's."""
BUSY = ("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "ConditionalRequestConflict", SKEWED)
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired", "RequestExpiredException")
EXPIRED_ERRORS = (SSOError, CredentialRetrievalError)


def untrusted(error: BaseException) -> bool:
    return isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error)


def code_of(error: BaseException) -> str:
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        return SKEWED if code == "403" and _skewed(error) else code
    if isinstance(error, S3UploadFailedError) and isinstance(error.__context__, ClientError):
        return code_of(error.__context__)
    return ""


def _skewed(error: ClientError) -> bool:
    """True if the clocks differ too much, by the date of the answer to HEAD, which has no body and so no error code."""
    try:
        told = parsedate_to_datetime(error.response["ResponseMetadata"]["HTTPHeaders"]["date"])
        return abs((datetime.now(UTC) - told).total_seconds()) > SKEW_S
    except (KeyError, TypeError, ValueError):
        return False


def in_transit(error: BaseException) -> bool:
    """True if the same request may succeed later."""
    if isinstance(error, S3UploadFailedError):
        return error.__context__ is None or in_transit(error.__context__)
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return (status >= 500 and status != 501) or status in (408, 429) or code_of(error) in BUSY
    if untrusted(error):
        return False
    return isinstance(error, ServerUnreachable | HTTPClientError | IncompleteReadError | ResponseStreamingError)
