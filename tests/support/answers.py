"""A server that gives every request one answer, and keeps what it was sent."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Answering(ThreadingHTTPServer):
    def __init__(self, status: int, body: bytes, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body, self.scheme = status, body, "https" if context else "http"
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.before: list[int] = []
        """Statuses of the first answers, in their order."""
        self.bodies: list[bytes] = []
        """What came with requests that got the answer."""
        self.headers: list[Message] = []
        """Of the same requests."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no news, and no part of what a command prints."""


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def _answer(self) -> None:
        received = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = (
            (self.server.before.pop(0), b"") if self.server.before else (self.server.status, self.server.body)
        )
        if status == self.server.status:
            self.server.bodies.append(received)
            self.server.headers.append(self.headers)
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


@contextlib.contextmanager
def answering(status: int, body: bytes = b"", context: ssl.SSLContext | None = None) -> Iterator[Answering]:
    with Answering(status, body, context) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def untrusted(folder: Path) -> ssl.SSLContext:
    """A certificate that nobody has signed."""
    made = "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 2 -subj /CN=127.0.0.1"
    subprocess.run(["openssl", *made.split()], cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context
