"""Write a sweep file to start from.

It is short, with comments, and has what is changed first. Nothing is overwritten. `shapes` is drawn and needs no data;
the others need the folder their images lie in.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from aream.errors import ConfigError
from orchestrator.console.command import DONE, command, run

TEMPLATES = Path(__file__).parent / "templates"
WITHOUT_ROOT = "shapes"
ROOT = "root: FOLDER"
"""The placeholder for a folder in a template."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where sweep.yaml is written; created if missing")
    names = sorted(path.stem for path in TEMPLATES.glob("*.yaml"))
    parser.add_argument("--data", choices=names, default=WITHOUT_ROOT, help=f"the dataset (default: {WITHOUT_ROOT})")
    parser.add_argument("--root", metavar="DIR", help="the folder the dataset lies in, or its URI")


@command(
    add_arguments,
    """
%(prog)s first
%(prog)s first --data voc2012 --root VOCdevkit/VOC2012
""",
    {DONE: "the file is written; the next command is printed"},
)
def main(options: argparse.Namespace) -> int:
    text = (TEMPLATES / f"{options.data}.yaml").read_text()
    if options.root is not None:
        if options.data == WITHOUT_ROOT:
            raise ConfigError(f"--root: given {options.root!r}; {WITHOUT_ROOT} is drawn and lies in no folder")
        root = options.root if "://" in options.root else str(Path(options.root).absolute())
        text = text.replace(ROOT, f"root: {json.dumps(root, ensure_ascii=False)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "sweep.yaml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already and was not changed: give another folder") from error
    print(path)
    if ROOT in text:
        print(f"replace FOLDER there with the folder of {options.data}; then:")
    print(f"aream sweep {shlex.quote(str(path))} --plan")
    return DONE


if __name__ == "__main__":
    run(main)
