"""What a person wants of a running sweep, in a small file that any terminal writes and the driver reads."""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aream.errors import ConfigError
from workers.atomic_write import write_json

WISHES = ("run", "pause", "stop")


@dataclass
class Orders:
    sweep: str = "run"
    """run, pause or stop."""
    trials: dict[str, str] = field(default_factory=dict)
    """Trial key -> pause or stop; others run."""

    @classmethod
    def read(cls, path: Path) -> Orders:
        """An absent file wants nothing.

        Raises:
            ConfigError: a file that holds no orders.
        """
        try:
            content: Any = json.loads(path.read_text())
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: holds no orders: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("trials", {}), dict):
            raise ConfigError(f"{path}: holds no orders; need sweep and trials")
        orders = cls(content.get("sweep", "run"), dict(content.get("trials", {})))
        wrong = [wish for wish in (orders.sweep, *orders.trials.values()) if wish not in WISHES]
        if wrong:
            raise ConfigError(f"{path}: given {reprlib.repr(wrong[0])}; allowed are {', '.join(WISHES)}")
        return orders

    def write(self, path: Path) -> None:
        write_json(path, {"sweep": self.sweep, "trials": self.trials}, indent=1)
