"""Where a webhook's URL leads in tests."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from answers import Answering, answering

Message = dict[str, Any]


class Messages(Sequence[Message]):
    """What was posted so far."""

    def __init__(self, server: Answering) -> None:
        self.server = server

    def __getitem__(self, index: Any) -> Any:
        return [json.loads(body) for body in self.server.bodies][index]

    def __len__(self) -> int:
        return len(self.server.bodies)


@contextlib.contextmanager
def receiving() -> Iterator[tuple[str, Messages]]:
    """A URL, and what is posted there so far."""
    with answering(204) as server:
        yield f"{server.url}/", Messages(server)
