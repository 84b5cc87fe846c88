"""Creates S3 buckets that are not there yet: python create_buckets.py BUCKET...

The endpoint and the keys come from boto3's own chain (AWS_ENDPOINT_URL_S3, AWS_SHARED_CREDENTIALS_FILE).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import boto3
from botocore.config import Config


def main(buckets: Sequence[str]) -> None:
    if not buckets:
        sys.exit(__doc__)
    client = boto3.client("s3", config=Config(retries={"mode": "standard", "total_max_attempts": 10}))
    there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in buckets:
        if name not in there:
            client.create_bucket(Bucket=name)
        print(f"{name}: {'is there' if name in there else 'created'}")


if __name__ == "__main__":
    main(sys.argv[1:])
