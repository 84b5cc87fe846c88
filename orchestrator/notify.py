"""Telling a webhook how a sweep does; a webhook that is away changes nothing."""

from __future__ import annotations

import json
import logging
import os
import threading
import urllib.request
from collections.abc import Mapping

from aream.errors import ConfigError
from orchestrator.settings import Notify
from workers.background import begin
from workers.masking import hide, masked

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
TRIES = 3


class Webhook:
    def __init__(self, sweep: str, settings: Notify) -> None:
        """Raises ``ConfigError`` where the variable holds no http(s) URL; the message does not quote it."""
        self.sweep, self.events = sweep, settings.events
        self.url = os.environ.get(settings.webhook_env, "")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"{settings.webhook_env}: need a URL that begins with http:// or https://")
        hide(self.url)
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
        headers = {"Content-Type": "application/json"}
        for _ in range(TRIES):
            try:
                request = urllib.request.Request(self.url, body, headers)
                with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                    return
            except Exception as error:  # http.client raises errors of its own for answers that are none
                log.warning("the webhook did not take a message: %s", type(error).__name__)
