"""Where staged items come from, and what a node has of them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import boto3

WEIGHTS = bytes(range(256)) * 4096
"""1 MiB."""


class Place:
    """A folder of a store, as somebody fills it, and its URI."""

    def __init__(self, uri: str, endpoint: str | None) -> None:
        self.uri, self.endpoint = f"{uri}/lab", endpoint

    def put(self, name: str, content: bytes) -> str:
        scheme, _, rest = self.uri.partition("://")
        if scheme == "file":
            path = Path(rest) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        else:
            bucket, _, prefix = rest.partition("/")
            client = boto3.client("s3", endpoint_url=self.endpoint)
            client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=content)
        return f"{self.uri}/{name}"


def archive(members: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def items(node: Path) -> set[str]:
    return {path.name.rpartition("-")[0] for path in (node / "items").glob("*")}
