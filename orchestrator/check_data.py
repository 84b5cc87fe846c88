"""Everything that is wrong with a dataset, before a sweep is planned on it.

    python -m orchestrator.check_data NAME --root DIR [--set KEY=VALUE]     # such as voc2012, coco2014
    python -m orchestrator.check_data SWEEP.yaml [--set KEY=VALUE]          # every dataset the sweep reads
    python -m orchestrator.check_data NAME --root DIR --deep                # decodes every image and mask

Lists, labels and the presence of every file are checked whole; images and masks are decoded for a sample of each
split. Exit status: 0 a sweep can read it, 1 something is wrong, 2 the command or the sweep file is.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from aream.data._findings import Finding, Findings
from orchestrator.console.command import DONE, NOT_ALL_WELL, command, run

if TYPE_CHECKING:
    from aream.config import Component
    from aream.data._findings import Findings

EXAMPLES = 5
"""Shown of each kind; JSON has more."""
WIDTH = 120
"""Where no terminal says another."""
CHECKS = ("root", "lists", "images", "masks", "labels", "label maps")


@command
def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    from workers.checks.dataset import check_dataset

    checked = [
        (component, check_dataset(component, sample=None if options.deep else options.sample, say=_progress, **use))
        for component, use in _datasets(options)
    ]
    if options.json:
        print(json.dumps([_plain(component, found) for component, found in checked], indent=1))
    else:
        print("\n\n".join(render(found, _title(component)) for component, found in checked))
    return NOT_ALL_WELL if any(found.hard for _, found in checked) else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.check_data", description="Say what is wrong with a dataset on this machine."
    )
    parser.add_argument("data", metavar="NAME|SWEEP.yaml", help="a dataset of aream/data, or a sweep file")
    parser.add_argument("--root", metavar="DIR", help="the folder it lies in (data.root)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another key (repeatable)")
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--deep", action="store_true", help="decode every image and mask")
    depth.add_argument("--sample", type=_count, default=300, metavar="N", help="decode N of each split (default: 300)")
    parser.add_argument("--json", action="store_true", help="the same for scripts")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"need a number of images >= 1, got {text!r}")
    return int(text)


def _datasets(options: argparse.Namespace) -> Iterable[tuple[Component, Mapping[str, Any]]]:
    """Each with what a sweep makes of it.

    Raises:
        AreamError: there are none of that name or file, or they are configured impossibly.
    """
    root = [] if options.root is None else [f"data.root={json.dumps(options.root)}"]
    if options.data.endswith((".yaml", ".yml")):
        return _of_sweep(Path(options.data), [*root, *options.set])
    keys = [given if given.startswith("data.") else f"data.{given}" for given in options.set]
    return [(_named(options.data, [*root, *keys]), {})]


def _of_sweep(path: Path, overrides: Sequence[str]) -> Iterable[tuple[Component, Mapping[str, Any]]]:
    from orchestrator.preflight.prepare import allow_staging, datasets, trial_configs
    from orchestrator.spec.data_use import label_folders, use_of
    from orchestrator.spec.reader import load_spec

    spec = load_spec(path, overrides)
    allow_staging(spec)
    use, folders = use_of(spec), label_folders(spec)
    every = datasets(spec, trial_configs(spec))
    return [(one, {"use": use, "label_folders": folders if one == spec.base.data else ()}) for one in every]


def _named(name: str, overrides: Sequence[str]) -> Component:
    from orchestrator.spec.build import build_component, located, strict
    from orchestrator.spec.yaml_source import read_overrides

    given = read_overrides(overrides).data.get("data", {})
    component = strict(lambda report: build_component("aream.data", {**given, "name": name}, "data", report, None))
    located_component: Component = located(component, Path.cwd())
    return located_component


def _title(component: Component) -> str:
    root = getattr(component.config, "root", None)
    return component.name if root is None else f"{component.name} in {root}"


def _plain(component: Component, found: Findings) -> dict[str, Any]:
    from dataclasses import asdict

    from aream.config import plain

    return {
        "data": {"name": component.name, **plain(component.config)},
        "good": not found.hard,
        "looked_at": [asdict(looked) for looked in found.looked],
        "findings": [asdict(finding) for finding in found],
        "notes": [dict(zip(("check", "split", "words"), note, strict=True)) for note in found.notes],
    }


def _progress(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def render(found: Findings, title: str) -> str:
    """The table as plain text."""
    table = Table()
    for column in ("check", "split", "looked at", "verdict"):
        table.add_column(column, overflow="fold")
    numbered = list(enumerate(found, start=1))
    looked = {(one.check, one.split): f"{one.count} of {one.total}" for one in found.looked}
    rows = {**looked, **{(finding.check, finding.split): "" for finding in found if _row(finding) not in looked}}
    for check, split in sorted(rows, key=lambda row: (CHECKS.index(row[0]), row[1])):
        mine = [(number, finding) for number, finding in numbered if _row(finding) == (check, split)]
        table.add_row(check, split or "both", rows[check, split], _verdict(mine))
    console = Console(file=io.StringIO(), width=max(60, shutil.get_terminal_size((WIDTH, 0)).columns), markup=False)
    console.print(table)
    lines = [title, *(line.rstrip() for line in console.file.getvalue().splitlines())]  # type: ignore[attr-defined]
    for number, finding in numbered:
        lines += _words(number, finding)
    lines += [f"{_where(check, split)}: {words}" for check, split, words in found.notes]
    return "\n".join(lines)


def _row(finding: Finding) -> tuple[str, str]:
    return finding.check, finding.split


def _verdict(numbered: list[tuple[int, Finding]]) -> str:
    if not numbered:
        return "ok"
    word = "WRONG" if any(finding.hard for _, finding in numbered) else "ok, but"
    return f"{word} {','.join(f'[{number}]' for number, _ in numbered)}"


def _words(number: int, finding: Finding) -> list[str]:
    warning = "" if finding.hard else "warning: "
    shown = finding.examples[:EXAMPLES]
    more = finding.count - len(shown)
    return [
        f"[{number}] {warning}{finding.where}: {finding.count}",
        *(f"    {words}" for words in shown),
        *([f"    and {more} more"] if more else []),
    ]


def _where(check: str, split: str) -> str:
    return f"{check}, {split}" if split else check


if __name__ == "__main__":
    run(main)
