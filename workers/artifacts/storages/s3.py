"""Objects in a bucket, through boto3. Credentials come from boto3's own chain alone and are never part of a message.

Not every server that speaks S3 knows a conditional put: some ignore ``If-None-Match``. A probe tells; without it,
writers of one name put claims beside it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    NoCredentialsError,
)  # fmt: skip
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from aream.errors import ConfigError, StoreUnavailable
from workers.artifacts.storages._claims import create_by_claim
from workers.artifacts.storages._protocol import PROBES, ObjectInfo
from workers.artifacts.storages._s3_errors import (
    EXPIRED,
    EXPIRED_ERRORS,
    SKEW_S,
    SKEWED,
    code_of,
    in_transit,
    untrusted,
)
from workers.processes.temporary import new_name

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
PATIENCE_S = 300.0
"""How long a server may be away before a call gives up: a training's result is worth the wait."""
CHECK_PATIENCE_S = 10.0
CONNECT_S, READ_S = 5, 30
PART_BYTES = 8 << 20
THREADS = 4
TRANSFER = TransferConfig(multipart_threshold=2 * PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=THREADS)
UPLOADED = "blobs/"
"""Nothing else is large enough to be uploaded in parts."""
REFUSED = "conditional-put"
"""An empty object that a server with conditional puts refuses to replace."""
BAD_ENDPOINT = "store.endpoint: need http://HOST[:PORT] or https://HOST[:PORT], without user or password"


def open_storage(parts: SplitResult, endpoint: str | None) -> S3Storage:
    """``s3://bucket/prefix``.

    Raises:
        ConfigError: no bucket, or more than a bucket and a prefix.
    """
    if not parts.hostname or parts.netloc != parts.hostname or parts.query or parts.fragment:
        raise ConfigError("store.uri: need s3://bucket/prefix; credentials come from the environment or ~/.aws only")
    if endpoint is not None and not _is_server(endpoint):
        raise ConfigError(BAD_ENDPOINT)
    return S3Storage(parts.netloc, parts.path.strip("/"), endpoint)


def _is_server(endpoint: str) -> bool:
    try:
        found = urlsplit(endpoint)
        known = found.scheme in ("http", "https") and found.hostname and found.port != 0
    except ValueError:
        return False
    return bool(known) and "@" not in endpoint and not (found.query or found.fragment)


class S3Storage:
    def __init__(self, bucket: str, prefix: str, endpoint: str | None = None, patience_s: float = PATIENCE_S) -> None:
        self.bucket, self.prefix, self.endpoint, self.patience_s = bucket, prefix, endpoint, patience_s
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self._client: S3Client | None = None
        self._lock = threading.Lock()
        self._conditional: bool | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return S3Storage, (self.bucket, self.prefix, self.endpoint, self.patience_s)

    @property
    def client(self) -> S3Client:
        with self._lock:
            if self._client is None:
                # Checksums of newer AWS kinds are not understood by every server; readers check digests themselves.
                options = Config(
                    connect_timeout=CONNECT_S,
                    read_timeout=READ_S,
                    retries={"mode": "standard", "max_attempts": 2},
                    max_pool_connections=2 * THREADS,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                try:
                    self._client = boto3.session.Session().client("s3", endpoint_url=self.endpoint, config=options)
                except (BotoCoreError, ValueError) as error:
                    raise ConfigError(f"{self.uri}: boto3 cannot make a client ({type(error).__name__})") from error
            return self._client

    def check(self) -> None:
        impatient, name = self.with_patience(CHECK_PATIENCE_S), f"{PROBES}{new_name()}"
        impatient.write(name, b"probe")
        if impatient.read(name) != b"probe":
            raise ConfigError(f"{self.uri}: does not give back what was written")
        impatient.delete(name)

    def with_patience(self, seconds: float) -> S3Storage:
        same = S3Storage(self.bucket, self.prefix, self.endpoint, seconds)
        same._client, same._conditional = self.client, self._conditional  # making a client costs more than most calls
        return same

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return b""
        extra: dict[str, Any] = {}
        if start or length is not None:
            extra["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"

        def get() -> bytes:
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self._key(name), **extra)
            except ClientError as error:
                if code_of(error) == "InvalidRange":  # behind the end, where a file gives nothing either
                    return b""
                raise
            content = answer["Body"].read()
            if len(content) != answer["ContentLength"]:
                raise IncompleteReadError(actual_bytes=len(content), expected_bytes=answer["ContentLength"])
            return content

        return self._patiently(get, name)

    def write(self, name: str, content: bytes) -> None:
        self._patiently(lambda: self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=content), name)

    def create(self, name: str, content: bytes) -> bool:
        if not self.conditional():
            return create_by_claim(self, name, content)
        try:
            self._patiently(lambda: self._put_new(name, content), name)
        except FileExistsError:
            try:  # a retry after a cut connection may meet the object of its own first attempt
                return self.read(name) == content
            except FileNotFoundError:  # the other writer's, deleted since
                return False
        return True

    def upload(self, name: str, path: Path) -> None:
        self._patiently(lambda: self.client.upload_file(str(path), self.bucket, self._key(name), Config=TRANSFER), name)

    def download(self, name: str, path: Path) -> None:
        self._patiently(
            lambda: self.client.download_file(self.bucket, self._key(name), str(path), Config=TRANSFER), name
        )

    def stat(self, name: str) -> ObjectInfo | None:
        try:
            found = self._patiently(lambda: self.client.head_object(Bucket=self.bucket, Key=self._key(name)), name)
        except FileNotFoundError:
            return None
        return ObjectInfo(name, found["ContentLength"], found["LastModified"].timestamp())

    def touch(self, name: str) -> None:
        source = {"Bucket": self.bucket, "Key": self._key(name)}
        self._patiently(
            lambda: self.client.copy(
                source,  # type: ignore[arg-type]
                self.bucket,
                self._key(name),
                ExtraArgs={"MetadataDirective": "REPLACE", "Metadata": {"touched": str(int(time.time()))}},
            ),
            name,
        )

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        token: dict[str, Any] = {}
        while True:
            page = self._patiently(
                lambda token=token: self.client.list_objects_v2(  # type: ignore[misc]
                    Bucket=self.bucket, Prefix=self._key(prefix), **token
                ),
                prefix,
            )
            for entry in page.get("Contents", []):
                name = entry["Key"][len(self._key("")) :]
                yield ObjectInfo(name, entry["Size"], entry["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, name: str) -> None:
        self._patiently(lambda: self.client.delete_object(Bucket=self.bucket, Key=self._key(name)), name)

    def delete_unchanged(self, info: ObjectInfo) -> bool:
        """A head and a delete: S3 has no single call for it."""
        found = self.stat(info.name)
        # A listing tells fractions of a second where a head does not.
        if found is not None and (found.size, int(found.modified)) != (info.size, int(info.modified)):
            return False
        self.delete(info.name)
        return True

    def discard_unfinished(self, older_than: float) -> int:
        """Only below ``blobs/``: a store without a prefix shares its bucket with others."""
        count, token = 0, dict[str, Any]()
        while True:
            page = self._patiently(
                lambda token=token: self.client.list_multipart_uploads(  # type: ignore[misc]
                    Bucket=self.bucket, Prefix=self._key(UPLOADED), **token
                ),
                "multipart uploads",
            )
            for upload in page.get("Uploads", []):
                if (datetime.now(UTC) - upload["Initiated"]).total_seconds() >= older_than:
                    count += self._abort(upload["Key"], upload["UploadId"])
            if not page.get("IsTruncated"):
                return count
            token = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _abort(self, key: str, upload: str) -> bool:
        try:
            self._patiently(
                lambda: self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload), key
            )
        except FileNotFoundError:  # completed or aborted since
            return False
        return True

    def conditional(self) -> bool:
        """Whether the server refuses a put with ``If-None-Match: *`` on an object that is there."""
        if self._conditional is None:
            # It stays: a process that is killed here leaves nothing that the next one would not write.
            if self.stat(REFUSED) is None:
                self.write(REFUSED, b"")
            try:
                self._patiently(lambda: self._put_new(REFUSED, b""), REFUSED)
            except FileExistsError:
                self._conditional = True
            except ConfigError:  # "not implemented"
                self._conditional = False
            else:
                self._conditional = False
        return self._conditional

    def _put_new(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=content, IfNoneMatch="*")

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def _patiently(self, call: Callable[[], T], name: str) -> T:
        """Repeat what failed on the way, not what the server refused."""
        retrying = Retrying(
            retry=retry_if_exception(in_transit),
            wait=wait_random_exponential(multiplier=0.2, max=10.0),
            stop=stop_after_delay(self.patience_s),
            reraise=True,
        )
        try:
            return retrying(call)
        except (ClientError, BotoCoreError, Boto3Error, OSError) as error:
            raise self._explained(error, name) from (None if isinstance(error, ClientError) else error)

    def _explained(self, error: Exception, name: str) -> Exception:
        """Our own words: a server's message may quote an access key."""
        code = code_of(error)
        if code in ("404", "NoSuchKey", "NoSuchUpload"):
            return FileNotFoundError(f"{self.uri}/{name}")
        if code in ("412", "PreconditionFailed"):
            return FileExistsError(f"{self.uri}/{name}")
        if code == SKEWED:
            return StoreUnavailable(
                f"{self.uri}: the clock of {socket.gethostname()} is more than {SKEW_S / 60:g} min off the server's,"
                f" which refused all requests for {self.patience_s:g} s ({code}); set the clock and run again"
            )
        if untrusted(error):
            return ConfigError(
                f"{self.uri}: the server's certificate is not trusted: name the file of the lab's in AWS_CA_BUNDLE"
            )
        if code in EXPIRED or isinstance(error, EXPIRED_ERRORS) or (code in ("400", "403") and self._expired()):
            return StoreUnavailable(f"{self.uri}: the credentials have expired: renew the token, and run again")
        if in_transit(error):
            return StoreUnavailable(f"{self.uri}: no answer for {self.patience_s:g} s ({code or type(error).__name__})")
        if isinstance(error, NoCredentialsError):
            return ConfigError(f"{self.uri}: boto3 finds no credentials (environment, ~/.aws, instance profile)")
        if isinstance(error, OSError):
            return StoreUnavailable(f"{name}: {error.strerror or error}")
        return ConfigError(f"{self.uri}: the server refuses {name}: {code or type(error).__name__}")

    def _expired(self) -> bool:
        """Asked where a HEAD was refused: its answer has no body that says why."""
        try:
            self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)
        except ClientError as error:
            return code_of(error) in EXPIRED
        except (BotoCoreError, OSError):
            return False
        return False
