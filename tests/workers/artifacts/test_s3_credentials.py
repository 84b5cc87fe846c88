"""Credentials that ended and certificates nobody trusts: told at once, by what helps."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator

import pytest
from ports import free_port

from aream.errors import ConfigError, StoreUnavailable
from workers.artifacts.storages.s3 import S3Storage

BODY = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>the token SECRET has expired</Message></Error>"


class Expired(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(400)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(BODY)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_):
        return


@contextlib.contextmanager
def server(context: ssl.SSLContext | None = None) -> Iterator[str]:
    served = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Expired)
    if context is not None:
        served.socket = context.wrap_socket(served.socket, server_side=True)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http{'s' if context else ''}://127.0.0.1:{served.server_port}"
    finally:
        served.shutdown()
        served.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def credentials(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "planted")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


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
    with server() as endpoint, pytest.raises(StoreUnavailable, match="renew the token") as caught:
        call(S3Storage("bucket", "", endpoint, patience_s=5))
    assert "SECRET" not in str(caught.value)


def test_a_certificate_that_is_not_trusted_is_named_at_once(tmp_path):
    made = "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 -subj /CN=127.0.0.1"
    subprocess.run(["openssl", *made.split()], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with server(context) as endpoint, pytest.raises(ConfigError, match=r"certificate is not trusted.*AWS_CA_BUNDLE"):
        S3Storage("bucket", "", endpoint, patience_s=600).read("x")
