"""Methods that tests add to those there are."""

from __future__ import annotations

from pathlib import Path

from aream import methods


def add_to(monkeypatch) -> None:
    """Let them be found by their names, here and by the rules of the registry."""
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(Path(__file__).parent)])
