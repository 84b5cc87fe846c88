"""Set-up of a sweep as texts to copy: what was asked for, with which code, on which hardware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def setup_texts(content: Mapping[str, Any], config: str) -> list[tuple[str, str]]:
    """Titles and texts.

    Args:
        config: the sweep's whole configuration; empty where it is not known.
    """
    origins = content.get("origins") or []
    devices = sorted({f"{row['device']} ({row['stage']})" for row in origins})
    code = sorted({row["code"] for row in origins} | {content["code"]})
    software = [f"{name} {version}" for name, version in content["versions"].items()]
    resources = [f"{job}: {_resource(given)}" for job, given in content.get("resources", {}).items()]
    texts = [
        ("Configuration", config),
        ("Environment", "\n".join([*(f"code {revision}" for revision in code), *software])),
        ("Hardware", "\n".join([*devices, *resources])),
    ]
    return [(title, text) for title, text in texts if text]


def _resource(given: Any) -> str:
    if not isinstance(given, Mapping):
        return str(given)
    return ", ".join(f"{name} {value}" for name, value in given.items() if value not in (None, {}))
