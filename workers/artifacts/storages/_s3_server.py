"""A server that speaks S3: asked again where an answer was lost on the way, and its errors in our own words.

Credentials come from boto3's own chain alone and are never part of a message.
"""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from aream.errors import ConfigError, StoreUnavailable
from workers.artifacts.storages._s3_errors import (
    EXPIRED,
    EXPIRED_ERRORS,
    SKEW_S,
    SKEWED,
    code_of,
    in_transit,
    untrusted,
)
from workers.artifacts.waits import Waits

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
MOST_CONNECTIONS = 8


class S3Server:
    def __init__(self, uri: str, bucket: str, endpoint: str | None, waits: Waits) -> None:
        """``uri`` is what messages are about."""
        self.uri, self.bucket, self.endpoint, self.waits = uri, bucket, endpoint, waits
        self._client: S3Client | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Server, (self.uri, self.bucket, self.endpoint, self.waits)

    def with_patience(self, seconds: float) -> S3Server:
        waits = dataclasses.replace(self.waits, patience_seconds=seconds)
        same = S3Server(self.uri, self.bucket, self.endpoint, waits)
        same._client = self.client  # making one costs more than most calls
        return same

    @property
    def client(self) -> S3Client:
        with self._lock:
            if self._client is None:
                # Checksums of newer AWS kinds are not understood by every server; readers check digests themselves.
                options = Config(
                    connect_timeout=self.waits.connect_seconds,
                    read_timeout=self.waits.read_seconds,
                    retries={"mode": "standard", "max_attempts": self.waits.retries},
                    max_pool_connections=MOST_CONNECTIONS,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                try:
                    self._client = boto3.session.Session().client("s3", endpoint_url=self.endpoint, config=options)
                except (BotoCoreError, ValueError) as error:
                    raise ConfigError(f"{self.uri}: boto3 cannot make a client ({type(error).__name__})") from error
            return self._client

    def ask(self, call: Callable[[], T], name: str) -> T:
        """Repeat what failed on the way, not what the server refused."""
        retrying = Retrying(
            retry=retry_if_exception(in_transit),
            wait=wait_random_exponential(multiplier=0.2, max=10.0),
            stop=stop_after_delay(self.waits.patience_seconds),
            reraise=True,
        )
        try:
            return retrying(call)
        except (ClientError, BotoCoreError, Boto3Error, OSError) as error:
            raise self._explained(error, name) from (None if isinstance(error, ClientError) else error)

    def _explained(self, error: Exception, name: str) -> Exception:
        """Our own words: a server's message may quote an access key."""
        code, patience = code_of(error), f"{self.waits.patience_seconds:g} s"
        if code in ("404", "NoSuchKey", "NoSuchUpload"):
            return FileNotFoundError(f"{self.uri}/{name}")
        if code in ("412", "PreconditionFailed"):
            return FileExistsError(f"{self.uri}/{name}")
        if code == SKEWED:
            return StoreUnavailable(
                f"{self.uri}: the clock of {socket.gethostname()} is more than {SKEW_S / 60:g} min off the server's,"
                f" which refused all requests for {patience} ({code}); set the clock and run again"
            )
        if untrusted(error):
            return ConfigError(
                f"{self.uri}: the server's certificate is not trusted: name the file of the lab's in AWS_CA_BUNDLE"
            )
        if code in EXPIRED or isinstance(error, EXPIRED_ERRORS) or (code in ("400", "403") and self._expired()):
            return StoreUnavailable(f"{self.uri}: the credentials have expired: renew the token, and run again")
        if in_transit(error):
            return StoreUnavailable(f"{self.uri}: no answer for {patience} ({code or type(error).__name__})")
        if isinstance(error, NoCredentialsError):
            return ConfigError(f"{self.uri}: boto3 finds no credentials (environment, ~/.aws, instance profile)")
        if isinstance(error, OSError):
            return StoreUnavailable(f"{name}: {error.strerror or error}")
        return ConfigError(f"{self.uri}: the server refuses {name}: {code or type(error).__name__}")

    def _expired(self) -> bool:
        """True if the credentials have expired; asked after a refused HEAD, whose answer has no body to tell."""
        try:
            self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
        except ClientError as error:
            return code_of(error) in EXPIRED
        except (BotoCoreError, OSError):
            return False
        return False
