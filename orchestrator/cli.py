"""One YAML in; ranked and reproducible weakly supervised segmentation results out.

Each sub-command is a module too: `python -m orchestrator.sweep`. What it needs is imported once it is called.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn

from orchestrator.console.command import REFUSED, Command, run, texts
from orchestrator.console.parser import Parser
from orchestrator.console.streams import lasting_streams

COMMANDS = (
    "init",
    "sweep",
    "status",
    "control",
    "report",
    "labels",
    "artifacts",
    "ui",
    "check-data",
    "evaluate",
    "infer",
    "schema",
    "submit",
    "node-checks",
)
EXAMPLES = """
%(prog)s init first
%(prog)s sweep first/sweep.yaml --plan
%(prog)s sweep first/sweep.yaml
%(prog)s status shapes
"""


def aream() -> NoReturn:
    """The command ``aream``, to its end."""
    name, *arguments = sys.argv[1:] or [""]
    if name in COMMANDS:
        run(_named(name), arguments, f"aream {name}")
    with lasting_streams():
        _parser().parse_args(sys.argv[1:])  # help, a script, or what is wrong
    sys.exit(REFUSED)


def _named(name: str) -> Command:
    found: Command = import_module(f"orchestrator.{name.replace('-', '_')}").main
    return found


def _parser() -> Parser:
    """Build the parser of all commands, which imports them all."""
    from shtab import DIRECTORY, FILE, add_argument_to

    parser = Parser(prog="aream", **texts(__doc__, EXAMPLES))
    add_argument_to(parser, help="print a script that completes what is typed, for one of these shells")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        _named(name).add_to(commands, name)
    files = {
        "SWEEP.yaml": FILE,
        "NAME|SWEEP.yaml": FILE,
        "LAB.yaml": FILE,
        "FILE": FILE,
        "FOLDER": DIRECTORY,
        "DIR": DIRECTORY,
    }
    _complete(parser, files)
    return parser


def _complete(parser: argparse.ArgumentParser, files: Mapping[str, Any]) -> None:
    """Mark the arguments whose metavar is in ``files`` for completion of files or folders in the shell."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _complete(inner, files)
        elif isinstance(action.metavar, str) and action.metavar in files:
            action.complete = files[action.metavar]  # type: ignore[attr-defined]
