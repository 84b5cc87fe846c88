"""The browser's HTTP side: a page, what it asks for as JSON, and pictures."""

from __future__ import annotations

import base64
import hmac
import ipaddress
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from aream.errors import AreamError, ArtifactNotFound, StoreUnavailable
from orchestrator.browser import pictures
from orchestrator.browser.labelled import Labelled
from orchestrator.browser.sweep import BrowsedSweep

COOKIE = "aream_labels_{port}"
"""Browsers send a host's cookies to every port of it."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data: blob:; script-src 'self'; style-src 'self';"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
LASTING = "private, max-age=31536000, immutable"
"""Of what a key names: it never changes."""
PAGE = {"app.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}


def application(sweep: BrowsedSweep, token: str | None) -> ASGIApp:
    """
    Args:
        token: what a caller has to know, in the address once and from then on in a cookie; None: anybody on this
            machine may look, under a name of this machine alone, so that no page of another server reads along.
    """
    routes = _Routes(sweep)
    listed = [
        Route("/", routes.page),
        Route("/page/{name}", routes.part),
        Route("/api/sweep", routes.sweep_json),
        Route("/api/images/{key}", routes.images),
        Route("/api/measures/{key}", routes.measures),
        Route("/api/image/{key}/{image_id}", routes.image),
        Route("/api/relabel/{key}/{image_id}", routes.relabel),
        Route("/thumbnail/{key}/{image_id}", routes.thumbnail),
        Route("/photo/{key}/{image_id}", routes.photo),
        Route("/label/{key}/{image_id}", routes.label),
        Route("/truth/{key}/{image_id}", routes.truth),
        Route("/cam/{key}/{image_id}", routes.cam),
    ]
    handlers: Mapping[Any, Any] = {HTTPException: _refused, AreamError: _failed, OSError: _failed, KeyError: _unknown}
    return Starlette(routes=listed, exception_handlers=handlers, middleware=[Middleware(_Guard, token=token)])


class _Guard:
    """Lets in who may come in, and sets the headers of every answer."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self.app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        if self.token is None:
            if not _is_loopback(request.headers.get("host", "")):
                return JSONResponse({"error": "host: this address is served under localhost only"}, 403)
            return None
        cookie = COOKIE.format(port=request.scope["server"][1])
        given = request.query_params.get("token")
        if given is not None and hmac.compare_digest(given.encode(), self.token.encode()):
            entered = RedirectResponse("/", 303)
            entered.set_cookie(cookie, self.token, httponly=True, samesite="strict")
            return entered
        if hmac.compare_digest(request.cookies.get(cookie, "").encode(), self.token.encode()):
            return None
        return JSONResponse({"error": "token: open the address that the command printed"}, 401)


class _Routes:
    """Plain functions, each in a thread of the server's."""

    def __init__(self, sweep: BrowsedSweep) -> None:
        self.sweep = sweep

    def page(self, request: Request) -> Response:
        return Response(_file("index.html"), media_type="text/html", headers={"Cache-Control": "no-cache"})

    def part(self, request: Request) -> Response:
        name = request.path_params["name"]
        kind = PAGE[name]
        return Response(_file(name), media_type=kind, headers={"Cache-Control": "no-cache"})

    def sweep_json(self, request: Request) -> Response:
        return _json(self.sweep.describe())

    def images(self, request: Request) -> Response:
        return _json(self.sweep.images(request.path_params["key"]))

    def measures(self, request: Request) -> Response:
        found = self.sweep.measures(request.path_params["key"], request.query_params.get("other"))
        since = _number(request, "since", int, 0)
        rows = found.rows[max(0, since) :]
        return _json({"since": since, "rows": rows, "of": len(found.ids), "failure": found.take_failure()})

    def image(self, request: Request) -> Response:
        labelled, image_id = self._asked(request)
        labels = labelled.labels(image_id)
        return _json(
            {
                "id": image_id,
                "size": list(labels.shape),
                "agreement": labelled.agreement(image_id, labels),
                "depth": labelled.depth(image_id),
                "present": [index + 1 for index in labelled.cam(image_id, ())[0]],
            }
        )

    def relabel(self, request: Request) -> Response:
        labelled, image_id = self._asked(request)
        threshold = _number(request, "threshold", float, None)
        labels = labelled.relabelled(image_id, _layers(request), threshold)
        picture = base64.b64encode(pictures.label_picture(labels)).decode()
        return _json({"agreement": labelled.agreement(image_id, labels), "png": picture})

    def thumbnail(self, request: Request) -> Response:
        labelled, image_id = self._asked(request)
        made = pictures.thumbnail(self.sweep.dataset.image(image_id), labelled.labels(image_id))
        return _picture(made, "webp")

    def photo(self, request: Request) -> Response:
        _, image_id = self._asked(request)
        return _picture(pictures.photo(self.sweep.dataset.image(image_id)), "jpeg")

    def label(self, request: Request) -> Response:
        labelled, image_id = self._asked(request)
        return _picture(pictures.label_picture(labelled.labels(image_id)), "png")

    def truth(self, request: Request) -> Response:
        _, image_id = self._asked(request)
        mask = self.sweep.dataset.mask(image_id)
        if mask is None:
            raise HTTPException(404, f"{image_id}: has no mask")
        return _picture(pictures.label_picture(mask), "png")

    def cam(self, request: Request) -> Response:
        labelled, image_id = self._asked(request)
        classes, cams = labelled.cam(image_id, _layers(request))
        wanted = _number(request, "class", int, None)
        if wanted - 1 not in classes:
            raise HTTPException(404, f"class: {image_id} has a CAM of {[index + 1 for index in classes]}")
        return _picture(pictures.heat_picture(cams[classes.index(wanted - 1)]), "png")

    def _asked(self, request: Request) -> tuple[Labelled, str]:
        """The labels and the image that an address names, which is one of theirs."""
        labelled, image_id = self.sweep.labelled(request.path_params["key"]), request.path_params["image_id"]
        if image_id not in labelled.known:
            raise HTTPException(404, "image: these labels have no such image")
        return labelled, image_id


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _number(request: Request, name: str, kind: Callable[[str], Any], default: Any) -> Any:
    text = request.query_params.get(name)
    if text is None and default is not None:
        return default
    try:
        return kind(text or "")
    except ValueError:
        raise HTTPException(400, f"{name}: given {(text or '')[:80]!r}; need a number") from None


def _layers(request: Request) -> list[int]:
    """``0,3,4``; empty: no refinement."""
    text = request.query_params.get("layers", "")
    try:
        return [int(part) for part in text.split(",") if part]
    except ValueError:
        raise HTTPException(400, f"layers: given {text[:80]!r}; need numbers such as 0,1,2") from None


def _file(name: str) -> bytes:
    return files("orchestrator.browser").joinpath("page", name).read_bytes()


def _json(content: Any) -> Response:
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


def _picture(content: bytes, kind: str) -> Response:
    return Response(content, media_type=f"image/{kind}", headers={"Cache-Control": LASTING})


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def _failed(request: Request, error: Exception) -> Response:
    away = isinstance(error, StoreUnavailable | OSError)
    status = 404 if isinstance(error, ArtifactNotFound) else 503 if away else 400
    return JSONResponse({"error": str(error)}, status)


def _unknown(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "there is nothing of that name"}, 404)
