"""Values and durations as people read them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

AXIS = re.compile(r"(^|, |#\d+ )([A-Za-z_][\w.]*)=")
"""What stands before an axis in a title, and its key."""


def show(value: Any) -> str:
    """A short text for an axis value: a component's name, settings and lists without spaces."""
    if isinstance(value, Mapping):
        rest = ",".join(f"{key}={show(item)}" for key, item in value.items() if key != "name")
        return f"{value['name']}({rest})" if "name" in value and rest else str(value.get("name", rest))
    if isinstance(value, list | tuple):
        return f"[{','.join(show(item) for item in value)}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def telling(value: Any, others: Sequence[Any]) -> Any:
    """Shorten a component to its name and the settings in which others of that name differ, those that lie in a list of
    it likewise; keep anything else."""
    if not isinstance(value, Mapping) or "name" not in value:
        return value
    namesakes = [other for other in others if isinstance(other, Mapping) and other.get("name") == value["name"]]
    settings = {key for other in namesakes for key in other} - {"name"}
    varying = {
        key
        for key in settings
        if len({(key in other, json.dumps(other.get(key), sort_keys=True)) for other in namesakes}) > 1
    }
    shown = {key: item for key, item in value.items() if key == "name" or key in varying}
    for key, item in shown.items():
        if isinstance(item, list | tuple):
            lists = [other[key] for other in namesakes if isinstance(other.get(key), list | tuple)]
            beside = [part for each in lists for part in each]
            shown[key] = [telling(part, beside) for part in item]
    return shown


def shown_beside(configs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return, for each configuration of a table, axis -> value as text; a component shows only the settings that vary
    among these configurations."""
    columns: dict[str, list[Any]] = {}
    for config in configs:
        for key, value in config.items():
            columns.setdefault(key, []).append(value)
    return [{key: show(telling(value, columns[key])) for key, value in config.items()} for config in configs]


def first_sentence(text: str) -> tuple[str, str]:
    """The question or sentence that a text begins with, and the rest."""
    first = re.match(r".*?[?](?=\s|$)", text) or re.match(r".*?[.!](?=\s|$)", text)
    return (first[0], text[first.end() :].strip()) if first else (text, "")


def many(count: int, noun: str) -> str:
    """``1 training``, ``2 trainings``, ``2 classes``."""
    return f"{count} {noun}{'' if count == 1 else 'es' if noun.endswith('s') else 's'}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each dotted key -> its last parts, as many as tell it from the others."""
    parts = {key: key.split(".") for key in keys}
    names = {}
    for key, own in parts.items():
        depth = next(
            (
                count
                for count in range(1, len(own))
                if not any(other != key and theirs[-count:] == own[-count:] for other, theirs in parts.items())
            ),
            len(own),
        )
        names[key] = ".".join(own[-depth:])
    return names


def short_titles(titles: Sequence[str]) -> list[str]:
    """Titles such as ``#1 method.alpha_low=0.2, seed=0`` with the short names of their axes."""
    names = short_names(list(dict.fromkeys(key for title in titles for _, key in AXIS.findall(title))))
    return [AXIS.sub(lambda found: f"{found[1]}{names[found[2]]}=", title) for title in titles]


def listed(texts: Sequence[str], most: int = 4) -> str:
    """``a, b and c``; of many the first ones, and how many more."""
    if len(texts) > most:
        return f"{', '.join(texts[:most])} and {len(texts) - most} more"
    return " and ".join(part for part in (", ".join(texts[:-1]), *texts[-1:]) if part)
