"""Credentials that ended and certificates nobody trusts: told at once, by what helps."""

from __future__ import annotations

import pytest
from answers import answering, untrusted

from aream.errors import ConfigError, StoreUnavailable
from workers.artifacts.storages.s3 import S3Storage
from workers.artifacts.waits import Waits

BODY = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>the token SECRET has expired</Message></Error>"


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.read("x"),
        lambda store: store.stat("x"),  # a HEAD, whose answer says nothing
        lambda store: store.write("x", b""),
        lambda store: list(store.list("")),
        lambda store: store.delete("x"),
    ],
    ids=["read", "stat", "write", "list", "delete"],
)
def test_an_expired_token_can_be_renewed_and_the_sweep_goes_on(call):
    with answering(400, BODY) as server, pytest.raises(StoreUnavailable, match="renew the token") as caught:
        call(S3Storage("bucket", "", server.url, Waits(patience_seconds=5)))
    assert "SECRET" not in str(caught.value)


def test_a_certificate_that_is_not_trusted_is_named_at_once(tmp_path):
    with (
        answering(200, context=untrusted(tmp_path)) as server,
        pytest.raises(ConfigError, match=r"certificate is not trusted.*AWS_CA_BUNDLE"),
    ):
        S3Storage("bucket", "", server.url, Waits(patience_seconds=600)).read("x")
