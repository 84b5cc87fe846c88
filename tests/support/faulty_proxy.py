"""An HTTP proxy in front of a server that fails as servers and networks do: by seeded chance, or always.

    python tests/support/faulty_proxy.py PORT TARGET_URL [SEED RATE]

Faults: 500, 503, 503 SlowDown, a connection cut before the answer, one cut after the request was carried out, and a
body that ends early.
"""

from __future__ import annotations

import http.client
import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

FAULTS = ("500", "503", "SlowDown", "cut", "cut after", "truncated")


class FaultyProxy(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of many clients at once none waits for a second try

    def __init__(self, target: str, seed: int = 0, rate: float = 0.0, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.target, self.rate, self.random = urlsplit(target), rate, random.Random(seed)
        self.always: str | None = None
        """A fault or status that every request meets."""
        self.dropped_header: str | None = None
        """One that the server behind is made not to know."""
        self.requests: list[str] = []
        self.met: set[str] = set()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self) -> str | None:
        with self.lock:
            if self.always:
                return self.always
            found = self.random.choice(FAULTS) if self.random.random() < self.rate else None
            self.met |= {found} if found else set()
            return found

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that was cut is no news."""

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""

    def _carry(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {self.path}")
        fault = self.server.fault()
        if fault == "cut":
            self.close_connection = True
            return
        if fault and fault not in ("cut after", "truncated"):
            status, code = (503, "SlowDown") if fault == "SlowDown" else (int(fault), "Refused")
            self._answer(status, [], f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
            return
        connection = http.client.HTTPConnection(self.server.target.hostname, self.server.target.port, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() != self.server.dropped_header}
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except OSError:
            self.close_connection = True
            return
        finally:
            connection.close()
        if fault == "cut after":
            self.close_connection = True
            return
        self._answer(response.status, response.getheaders(), content, truncated=fault == "truncated")

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, truncated: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = dict((name.lower(), value) for name, value in headers).get("content-length", str(len(content)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if truncated else content)
        if truncated:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _carry  # noqa: N815  (names the server looks for)


if __name__ == "__main__":
    port, target, *chance = sys.argv[1:]
    seed, rate = (int(chance[0]), float(chance[1])) if chance else (0, 0.0)
    FaultyProxy(target, seed, rate, int(port)).serve_forever()
