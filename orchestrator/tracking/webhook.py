"""Send events of a sweep to a webhook; an unreachable webhook changes nothing."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import threading
import time
import urllib.request
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from aream.errors import ConfigError
from orchestrator.spec.settings import Notify
from workers.processes.background import begin
from workers.processes.masking import hide, masked

log = logging.getLogger(__name__)

USUAL = "AREAM_WEBHOOK"
TIMEOUT_S = 10.0
TRIES, PAUSE_S = 3, 1.0


def webhook_url(settings: Notify) -> str:
    """Return the webhook's URL; empty: no variable is named, and the usual one is not set. Messages mask it afterwards.

    Raises:
        ConfigError: the variable that is named is not set, or holds no http(s) URL.
    """
    name = settings.webhook_env or USUAL
    url = os.environ.get(name, "").strip()
    if not url:
        if settings.webhook_env is not None:
            raise ConfigError(
                f"notify.webhook_env: the environment variable {name} is not set; set it to the webhook's URL, or leave"
                " the key out"
            )
        return ""
    hide(url)
    if not _is_usable(url):
        raise ConfigError(f"{name}: need a webhook's URL, http(s)://HOST/...; what it holds is not shown")
    return url


def _is_usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and url.isascii() and not re.search(r"[\s\x00-\x1f\x7f]", url)


def _addressed(url: str) -> tuple[str, dict[str, str]]:
    """The URL without a user and password, which ``urllib`` takes for a part of the host, and the header with them."""
    parts = urlsplit(url)
    given, _, host = parts.netloc.rpartition("@")
    if not given:
        return url, {}
    user, _, password = given.partition(":")
    credentials = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {credentials}"}


class Webhook:
    def __init__(self, sweep: str, settings: Notify) -> None:
        """Raises ``ConfigError`` as :func:`webhook_url` does."""
        self.sweep, self.events, self.url = sweep, settings.events, webhook_url(settings)
        self.threads: list[threading.Thread] = []

    def tell(self, event: str, text: str, counts: Mapping[str, int]) -> None:
        """Send one event, in a thread of its own."""
        if not self.url or event not in self.events:
            return
        content = {"text": masked(f"{self.sweep}: {text}"), "event": event, "sweep": self.sweep, "counts": dict(counts)}
        body = json.dumps(content).encode()
        thread = begin("webhook", lambda: self._send(body))
        self.threads = [known for known in self.threads if known.is_alive()] + [thread]

    def close(self) -> None:
        """Wait for what is being sent."""
        for thread in self.threads:
            thread.join(TIMEOUT_S)

    def _send(self, body: bytes) -> None:
        url, headers = _addressed(self.url)
        for attempt in range(TRIES):
            time.sleep(attempt * PAUSE_S)
            try:
                request = urllib.request.Request(url, body, {**headers, "Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                    return
            except Exception as error:  # http.client raises errors of its own for answers that are none
                log.warning("the webhook did not take a message: %s", type(error).__name__)
