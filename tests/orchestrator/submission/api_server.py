"""As much of a Kubernetes API server as kubectl asks for here: RayJobs that are kept, and one pod with a log."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

RESOURCES = {
    "v1": [("pods", "Pod")],
    "batch/v1": [("jobs", "Job")],
    "ray.io/v1": [("rayjobs", "RayJob")],
}
Objects = dict[str, dict[str, Any]]


class ApiServer:
    """Keeps what it is given; the test plays KubeRay and changes ``rayjobs``."""

    def __init__(self, problems: Callable[[Any], list[str]]) -> None:
        """Args:
        problems: what a strict server would not take of a RayJob.
        """
        self.rayjobs: Objects = {}
        self.problems, self.log = problems, "what the sweep prints\n"
        self.job_was_read, self.log_was_read = threading.Event(), threading.Event()
        self.server = _Server(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def write_kubeconfig(self, path: Path) -> None:
        cluster = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.server.server_address[1]}"}}
        context = {"name": "lab", "context": {"cluster": "c", "user": "u"}}
        content = {"apiVersion": "v1", "kind": "Config", "clusters": [cluster], "contexts": [context], "users": [
            {"name": "u", "user": {}}]}  # fmt: skip
        path.write_text(json.dumps(content))

    def get(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        parts = path.strip("/").split("/")
        if path in ("/api", "/apis"):
            return 200, _groups(path)
        if parts[-1] in ("v1",) and not path.startswith("/openapi"):
            return 200, _resources("/".join(parts[1:]))
        if path.startswith("/openapi/v3"):
            return 200, _openapi(path)
        if "rayjobs" in parts:
            if parts[-1] != "rayjobs":
                self.job_was_read.set()
                found = self.rayjobs.get(parts[-1])
                return (200, found) if found else (404, _status(404, f'rayjobs.ray.io "{parts[-1]}" not found'))
            key, _, value = query["labelSelector"][0].partition("=")
            items = [job for job in self.rayjobs.values() if job["metadata"]["labels"].get(key) == value]
            return 200, {"apiVersion": "ray.io/v1", "kind": "RayJobList", "metadata": {}, "items": items}
        if "jobs" in parts:
            spec = {"selector": {"matchLabels": {"job-name": parts[-1]}}, "template": {}}
            metadata = {"name": parts[-1], "namespace": "lab"}
            return 200, {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
        if parts[-1] == "log":
            self.log_was_read.set()
            return 200, self.log
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "submitter", "namespace": "lab"},
            "spec": {"containers": [{"name": "ray-job-submitter"}]}, "status": {"phase": "Running"},
        }  # fmt: skip
        return 200, pod if parts[-1] == "submitter" else {"apiVersion": "v1", "kind": "PodList", "metadata": {},
                                                          "items": [pod]}  # fmt: skip

    def post(self, query: dict[str, list[str]], content: Any) -> tuple[int, Any]:
        if query.get("fieldValidation") == ["Strict"] and (found := self.problems(content)):
            return 400, _status(400, f"strict decoding error: {found[0]}")
        self.rayjobs[content["metadata"]["name"]] = content
        return 201, content

    def delete(self, name: str) -> tuple[int, Any]:
        self.rayjobs.pop(name)
        return 200, {"apiVersion": "v1", "kind": "Status", "status": "Success"}


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A kubectl that went away is no news, and no part of what a command prints."""


def _handler(api: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*api.get(self.path_only, self.query))

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(*api.post(self.query, content))

        def do_DELETE(self) -> None:
            self._answer(*api.delete(self.path_only.rpartition("/")[2]))

        @property
        def path_only(self) -> str:
            return urlsplit(self.path).path

        @property
        def query(self) -> dict[str, list[str]]:
            return parse_qs(urlsplit(self.path).query)

        def _answer(self, code: int, content: Any) -> None:
            body = content if isinstance(content, str) else json.dumps(content)
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(content, str) else "application/json")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            """Nothing on the test's own output."""

    return Handler


def _groups(path: str) -> Any:
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    groups = [group.partition("/") for group in RESOURCES if "/" in group]
    versions = [(name, {"groupVersion": f"{name}/{version}", "version": version}) for name, _, version in groups]
    listed = [{"name": name, "versions": [one], "preferredVersion": one} for name, one in versions]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def _resources(group: str) -> Any:
    verbs = ["create", "delete", "get", "list", "patch"]
    listed = [
        {"name": name, "singularName": name[:-1], "namespaced": True, "kind": kind, "verbs": verbs}
        for name, kind in RESOURCES[group]
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": listed}


def _openapi(path: str) -> Any:
    """That the server itself checks fields."""
    if path == "/openapi/v3":
        return {"paths": {"apis/ray.io/v1": {"serverRelativeURL": "/openapi/v3/apis/ray.io/v1"}}}
    kind = {"group": "ray.io", "version": "v1", "kind": "RayJob"}
    patch = {"parameters": [{"name": "fieldValidation", "in": "query"}], "x-kubernetes-group-version-kind": kind}
    place = "/apis/ray.io/v1/namespaces/{namespace}/rayjobs/{name}"
    return {"openapi": "3.0.0", "info": {"title": "x", "version": "1"}, "paths": {place: {"patch": patch}}}


def _status(code: int, message: str) -> Any:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
            "reason": "NotFound" if code == 404 else "BadRequest"}  # fmt: skip
