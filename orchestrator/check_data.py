"""Everything that is wrong with a dataset, before a sweep is planned on it.

    python -m orchestrator.check_data NAME --root DIR [--set KEY=VALUE]     # such as voc2012, coco2014
    python -m orchestrator.check_data SWEEP.yaml [--set KEY=VALUE]          # every dataset the sweep reads
    python -m orchestrator.check_data NAME --root DIR --deep                # decodes every image and mask

Lists, labels and the presence of every file are checked whole; images and masks are decoded for a sample of each
split. Exit status: 0 a sweep can read it, 1 something is wrong, 2 the command or the sweep file is.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.entry import DONE, NOT_ALL_WELL, command, run

if TYPE_CHECKING:
    from aream.config import Component
    from aream.data._findings import Findings


@command
def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    from orchestrator.finding_table import render
    from workers.dataset_check import check_dataset

    checked = [
        (component, check_dataset(component, sample=None if options.deep else options.sample, say=_progress, **use))
        for component, use in _datasets(options)
    ]
    if options.json:
        print(json.dumps([_plain(component, found) for component, found in checked], indent=1))
    else:
        print("\n\n".join(render(found, _title(component)) for component, found in checked))
    return NOT_ALL_WELL if any(found.hard for _, found in checked) else DONE


def check_command(component: Component) -> str:
    """The command line that checks a dataset."""
    import dataclasses

    words = ["python -m orchestrator.check_data", component.name]
    for field in dataclasses.fields(component.config):
        value = getattr(component.config, field.name)
        if field.name == "root":
            words += ["--root", shlex.quote(str(value))]
        elif value != field.default:
            words += ["--set", shlex.quote(f"{field.name}={json.dumps(value)}")]
    return " ".join(words)


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
    from orchestrator.data_use import label_folders, use_of
    from orchestrator.preflight import allow_staging, datasets, trial_configs
    from orchestrator.spec_reader import load_spec

    spec = load_spec(path, overrides)
    allow_staging(spec)
    use, folders = use_of(spec), label_folders(spec)
    every = datasets(spec, trial_configs(spec))
    return [(one, {"use": use, "label_folders": folders if one == spec.base.data else ()}) for one in every]


def _named(name: str, overrides: Sequence[str]) -> Component:
    from orchestrator.build import build_component, located, strict
    from orchestrator.yaml_source import read_overrides

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


if __name__ == "__main__":
    run(main)
