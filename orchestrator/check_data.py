"""Say everything that is wrong with a dataset, before a sweep is planned on it.

Lists, labels and the presence of every file are checked whole; images and masks are decoded for a sample of each
split.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aream.errors import ConfigError
from orchestrator.console.command import DONE, NOT_ALL_WELL, command, run
from orchestrator.console.parser import add_overrides

if TYPE_CHECKING:
    from aream.config import Component
    from aream.data.findings import Findings


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"need a number of images >= 1, got {text!r}")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="NAME|SWEEP.yaml", help="a dataset of aream/datasets, or a sweep file")
    parser.add_argument("--root", metavar="DIR", help="the folder it lies in (data.root)")
    add_overrides(parser)
    depth = parser.add_mutually_exclusive_group()
    depth.add_argument("--deep", action="store_true", help="decode every image and mask")
    depth.add_argument("--sample", type=_count, default=300, metavar="N", help="decode N of each split (default: 300)")
    parser.add_argument(
        "--overlays",
        type=Path,
        metavar="FILE.png",
        help="draw six images with their masks and a legend",
    )
    parser.add_argument("--json", action="store_true", help="the same for scripts")


@command(
    add_arguments,
    """
%(prog)s voc2012 --root VOCdevkit/VOC2012
%(prog)s voc2012 --root VOCdevkit/VOC2012 --deep      # decodes every image and mask
%(prog)s sweeps/voc_animals.yaml --set data.root=DIR  # every dataset that the sweep reads
%(prog)s mine/sweep.yaml --overlays seen.png          # six images as they are understood
""",
    {DONE: "a sweep can read it", NOT_ALL_WELL: "something is wrong with it"},
)
def main(options: argparse.Namespace) -> int:
    from workers.checks.dataset import check_dataset

    datasets = list(_datasets(options))
    if options.overlays is not None and len(datasets) > 1:
        raise ConfigError(f"--overlays: need one dataset, the sweep reads {len(datasets)}; set data.KEY to one value")
    checked = [
        (component, check_dataset(component, sample=None if options.deep else options.sample, say=_progress, **use))
        for component, use in datasets
    ]
    if options.overlays is not None:
        _write_overlays(checked[0][0], options.overlays)
    if options.json:
        print(json.dumps([_plain(component, found) for component, found in checked], indent=1))
    else:
        from orchestrator.console.findings import render

        print("\n\n".join(render(found, _title(component)) for component, found in checked))
    return NOT_ALL_WELL if any(found.hard for _, found in checked) else DONE


def _write_overlays(component: Component, path: Path) -> None:
    from aream.data.findings import Findings
    from aream.errors import DataError
    from orchestrator.reporting.data_examples import write_examples
    from workers.checks.dataset import open_dataset

    try:
        write_examples(open_dataset(component, Findings()), path)
        _progress(f"examples in {path}")
    except DataError as error:  # the check has told of it
        _progress(f"--overlays: no picture, {error}")


def _datasets(options: argparse.Namespace) -> Iterable[tuple[Component, Mapping[str, Any]]]:
    """Each with what a sweep makes of it.

    Raises:
        AreamError: there are none of that name or file, or they are configured impossibly.
    """
    from orchestrator.spec.named_data import is_sweep_file, named_data, with_root

    if is_sweep_file(options.data):
        return _of_sweep(Path(options.data), with_root(options.root, options.set))
    return [(named_data(options.data, options.root, options.set), {})]


def _of_sweep(path: Path, overrides: Sequence[str]) -> Iterable[tuple[Component, Mapping[str, Any]]]:
    from orchestrator.preflight.prepare import allow_staging, datasets, trial_configs
    from orchestrator.spec.data_use import label_folders, use_of
    from orchestrator.spec.reader import load_spec

    spec = load_spec(path, overrides)
    allow_staging(spec)
    use, folders = use_of(spec), label_folders(spec)
    every = datasets(spec, trial_configs(spec))
    return [(one, {"use": use, "label_folders": folders if one == spec.base.data else ()}) for one in every]


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
        "left_out": found.left_out,
        "notes": [dict(zip(("check", "split", "words"), note, strict=True)) for note in found.notes],
    }


def _progress(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
