"""Objects in a bucket, through boto3.

Not every server that speaks S3 knows a conditional put: some ignore ``If-None-Match``. A probe tells; without it,
writers of one name put claims beside it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError, IncompleteReadError

from aream.errors import ConfigError
from workers.artifacts.storages._claims import create_by_claim
from workers.artifacts.storages._s3_errors import code_of
from workers.artifacts.storages._s3_server import MOST_CONNECTIONS, S3Server
from workers.artifacts.storages.protocol import PROBES, ObjectInfo
from workers.artifacts.waits import USUAL, Waits
from workers.processes.temporary import new_name

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHECK_PATIENCE_S = 10.0
PART_BYTES = 8 << 20
THREADS = MOST_CONNECTIONS // 2
TRANSFER = TransferConfig(multipart_threshold=2 * PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=THREADS)
UPLOADED = "blobs/"
"""Nothing else is large enough to be uploaded in parts."""
REFUSED = "conditional-put"
"""An empty object that a server with conditional puts refuses to replace."""
BAD_ENDPOINT = "store.endpoint: need http://HOST[:PORT] or https://HOST[:PORT], without user or password"


def open_storage(parts: SplitResult, endpoint: str | None, waits: Waits = USUAL) -> S3Storage:
    """``s3://bucket/prefix``.

    Raises:
        ConfigError: no bucket, or more than a bucket and a prefix.
    """
    if not parts.hostname or parts.netloc != parts.hostname or parts.query or parts.fragment:
        raise ConfigError("store.uri: need s3://bucket/prefix; credentials come from the environment or ~/.aws only")
    if endpoint is not None and not _is_server(endpoint):
        raise ConfigError(BAD_ENDPOINT)
    return S3Storage(parts.netloc, parts.path.strip("/"), endpoint, waits)


def _is_server(endpoint: str) -> bool:
    try:
        found = urlsplit(endpoint)
        known = found.scheme in ("http", "https") and found.hostname and found.port != 0
    except ValueError:
        return False
    return bool(known) and "@" not in endpoint and not (found.query or found.fragment)


class S3Storage:
    def __init__(self, bucket: str, prefix: str, endpoint: str | None = None, waits: Waits = USUAL) -> None:
        self.bucket, self.prefix = bucket, prefix
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self.server = S3Server(self.uri, bucket, endpoint, waits)
        self._conditional: bool | None = None

    @property
    def client(self) -> S3Client:
        return self.server.client

    def check(self) -> None:
        impatient, name = self.with_patience(CHECK_PATIENCE_S), f"{PROBES}{new_name()}"
        impatient.write(name, b"probe")
        if impatient.read(name) != b"probe":
            raise ConfigError(f"{self.uri}: does not return what was written")
        impatient.delete(name)

    def with_patience(self, seconds: float) -> S3Storage:
        same = copy.copy(self)
        same.server = self.server.with_patience(seconds)
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

        return self.server.ask(get, name)

    def write(self, name: str, content: bytes) -> None:
        self.server.ask(lambda: self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=content), name)

    def create(self, name: str, content: bytes) -> bool:
        if not self.conditional():
            return create_by_claim(self, name, content)
        try:
            self.server.ask(lambda: self._put_new(name, content), name)
        except FileExistsError:
            try:  # a retry after a cut connection may meet the object of its own first attempt
                return self.read(name) == content
            except FileNotFoundError:  # the other writer's, deleted since
                return False
        return True

    def upload(self, name: str, path: Path) -> None:
        self.server.ask(lambda: self.client.upload_file(str(path), self.bucket, self._key(name), Config=TRANSFER), name)

    def download(self, name: str, path: Path) -> None:
        self.server.ask(
            lambda: self.client.download_file(self.bucket, self._key(name), str(path), Config=TRANSFER), name
        )

    def stat(self, name: str) -> ObjectInfo | None:
        try:
            found = self.server.ask(lambda: self.client.head_object(Bucket=self.bucket, Key=self._key(name)), name)
        except FileNotFoundError:
            return None
        return ObjectInfo(name, found["ContentLength"], found["LastModified"].timestamp())

    def touch(self, name: str) -> None:
        source = {"Bucket": self.bucket, "Key": self._key(name)}
        self.server.ask(
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
            page = self.server.ask(
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
        self.server.ask(lambda: self.client.delete_object(Bucket=self.bucket, Key=self._key(name)), name)

    def delete_unchanged(self, info: ObjectInfo) -> bool:
        """A head and a delete: S3 has no single call for it."""
        found = self.stat(info.name)
        # A listing tells fractions of a second where a head does not.
        if found is not None and (found.size, int(found.modified)) != (info.size, int(info.modified)):
            return False
        self.delete(info.name)
        return True

    def discard_unfinished(self, older_than: float) -> int:
        """Abort old uploads, only below ``blobs/``: a store without a prefix shares its bucket with others."""
        count, token = 0, dict[str, Any]()
        while True:
            page = self.server.ask(
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
            self.server.ask(
                lambda: self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload), key
            )
        except FileNotFoundError:  # completed or aborted since
            return False
        return True

    def conditional(self) -> bool:
        """True if the server refuses a put with ``If-None-Match: *`` on an object that is there."""
        if self._conditional is None:
            # It stays: a process that is killed here leaves nothing that the next one would not write.
            if self.stat(REFUSED) is None:
                self.write(REFUSED, b"")
            try:
                self.server.ask(lambda: self._put_new(REFUSED, b""), REFUSED)
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
