"""Secrets out of text: whatever is printed, logged, recorded or sent goes through ``masked`` before."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
SECRET_NAME = re.compile(r"(?i)secret|passw|token(?!iz)|credential|access_?key|api_?key|webhook")
"""Pattern of names of variables whose values are secret."""
_A_PLACE = re.compile(r"(?i)_(path|file|dir|uri|url|mode)$")
_SHORTEST = 8
"""Shorter values of such variables are words that occur in other text."""
_DATABASE = r"(?:postgres(?:ql)?|mysql|mariadb|mssql|oracle|sqlite)(?:\+\w+)?"
_AFTER_PASSWORD = re.compile(r"(://[^:/@\s]*):[^\s]*@")
_ALONE = re.compile(rf"(?<![\w+])(?!(?:{_DATABASE}|ssh|git)://)([A-Za-z][\w+.-]*://)[^/?#@:\s'\"]+@")
"""Pattern of a token: the user part of a URL without a colon; for a database that is a user's name."""
_IN_A_QUERY = re.compile(
    r"([?&;#](?:[\w.%-]*(?:token|key|secret|signature|passw(?:or)?d|pwd|auth|credential)[\w.%-]*|sig|code)=)[^&;#\s'\"<>]+",
    re.IGNORECASE,
)
_WEBHOOK = re.compile(
    r"(https?://[^/\s'\"]*(?:/[^/\s'\"]+)*?/(?:hooks?|webhooks?\w*|services|triggers|workflows)/)[^\s'\"<>]+"
    r"|(https?://(?:hooks?|webhooks?)\.[^/\s'\"]+/)[^\s'\"<>]+",
    re.IGNORECASE,
)
_AWS_KEY_ID = re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[0-9A-Z]{12,}\b")
_ASSIGNED = re.compile(
    r"((?:aws_)?(?:secret_access_key|session_token|access_key_id)['\"]?\s*[=:]\s*['\"]?)[^\s'\",}]{16,}"
    r"|(\bauthorization['\"]?\s*[=:]\s*['\"]?(?:bearer|basic|token)\s+)[^\s'\",}]+"
    r"|(\bbearer\s+)(?=[^\s'\",}]{8})[^\s'\",}]+",
    re.IGNORECASE,
)
_hidden: set[str] = set()


def hide(url: str) -> None:
    """Let ``masked`` replace a URL that is secret as a whole, and its parts behind the host."""
    try:
        parts = urlsplit(url)
        behind = url.split(parts.netloc, 1)[1] if parts.netloc else ""
    except ValueError:
        behind = ""
    for text in (url, behind, unquote(behind)):
        if len(text) >= _SHORTEST and not text.endswith("://"):  # a scheme alone is in every address
            _hidden.add(text)


def masked(text: str) -> str:
    """The text with every password, token, key and webhook address in it replaced.

    That is: ``USER:PASSWORD@`` and ``TOKEN@`` of a URL, its parameters that are secret by their name, what stands
    behind the host of a webhook, AWS keys, headers that authorise, and the values of this process's variables that are
    secret by their name.
    """
    for value in sorted({*_hidden, *_secret_variables()}, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    text = _AFTER_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _ALONE.sub(rf"\1{HIDDEN}@", text)
    text = _WEBHOOK.sub(lambda found: f"{found[1] or found[2]}{HIDDEN}", text)
    text = _IN_A_QUERY.sub(rf"\1{HIDDEN}", text)
    text = _ASSIGNED.sub(lambda found: f"{found[1] or found[2] or found[3]}{HIDDEN}", text)
    return _AWS_KEY_ID.sub(HIDDEN, text)


def masked_content(content: Any) -> Any:
    """A copy of plain data, as JSON has it, with ``masked`` texts."""
    if isinstance(content, str):
        return masked(content)
    if isinstance(content, dict):
        return {key: masked_content(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [masked_content(value) for value in content]
    return content


def _secret_variables() -> list[str]:
    return [
        value
        for name, value in os.environ.items()
        if len(value) >= _SHORTEST
        and SECRET_NAME.search(name)
        and not _A_PLACE.search(name)
        and not value.startswith(("/", "~", "file://"))
    ]
