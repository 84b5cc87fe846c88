"""Timeouts and retries for a server that speaks S3."""

from __future__ import annotations

from aream.config import config
from aream.errors import ConfigError

LONGEST_S = 7 * 86_400.0
MOST_RETRIES = 100


@config
class Waits:
    connect_seconds: float = 5.0
    """Seconds until a connection is made."""
    read_seconds: float = 30.0
    """Seconds until the next bytes of an answer arrive."""
    retries: int = 2
    """Immediate retries, by boto3 itself, of a request that failed on the way."""
    patience_seconds: float = 300.0
    """Seconds that the server may be unreachable before a call gives up: a training's result is worth the wait."""

    def __post_init__(self) -> None:
        for name in ("connect_seconds", "read_seconds", "patience_seconds"):
            if not 0 < getattr(self, name) <= LONGEST_S:
                raise ConfigError(f"{name}: need a number above 0, at most {LONGEST_S:g}, got {getattr(self, name)}")
        if not 0 <= self.retries <= MOST_RETRIES:
            raise ConfigError(f"retries: need a number in 0..{MOST_RETRIES}, got {self.retries}")


USUAL = Waits()
