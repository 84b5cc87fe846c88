"""Arguments as people give them: options before, between and behind the words, and help that ends with examples."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from typing import Any, NoReturn

from aream.errors import ConfigError


class Wrong(Exception):
    """Arguments that a parser cannot read; it reports them once no other reading is left to try."""

    def __init__(self, parser: argparse.ArgumentParser, message: str) -> None:
        super().__init__(message)
        self.parser = parser


class Parser(argparse.ArgumentParser):
    """One that takes words and options in any order, and of an option whose value may be left out (``--watch NAME``)
    the word that follows only where it is needed nowhere else."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)
        self._mixing = False

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Raises ``SystemExit`` where they mean nothing, after saying so."""
        try:
            return super().parse_args(args, namespace)
        except Wrong as error:
            with contextlib.suppress(Wrong):
                return super().parse_args(self._without_values(args), namespace)
            argparse.ArgumentParser.error(error.parser, str(error))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        if self._mixing or self._subparsers is not None:  # argparse mixes none of sub-commands, which do it themselves
            return super().parse_known_args(args, namespace)
        self._mixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._mixing = False

    def error(self, message: str) -> NoReturn:
        raise Wrong(self, message)

    def _without_values(self, args: Sequence[str]) -> list[str]:
        bare = {name: action.const for action in self._actions if action.nargs == "?" for name in action.option_strings}
        return [f"{word}={bare[word]}" if word in bare else word for word in args]


def add_sweep(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """A sweep that is looked at, and the folder its name is looked for in."""
    parser.add_argument(
        "sweep", metavar="NAME|SWEEP.yaml", help="name of a sweep under the runs folder, or its YAML", **settings
    )
    parser.add_argument(
        "--runs", metavar="FOLDER", default="runs", help="the runs folder (default: runs; a YAML names its own)"
    )


def refuse_idle(options: argparse.Namespace, why: str, *names: str) -> None:
    """
    Raises:
        ConfigError: one of these was given, which would be passed over.
    """
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) not in (None, False, [])]
    if given:
        raise ConfigError(f"{', '.join(given)}: {why}: leave {'it' if len(given) == 1 else 'them'} out")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the YAML (repeatable)"
    )
