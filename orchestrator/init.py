"""Write a sweep file to start from.

It is short, with comments, and has what is changed first. Nothing is overwritten. `shapes` is drawn and needs no data;
the others need the folder their images lie in. A folder of your own images is looked at: what its settings are likely
to be is written down, and told.
"""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from aream.errors import ConfigError
from orchestrator.console.command import DONE, command, run
from orchestrator.spec.names import absolute
from orchestrator.text import many

TEMPLATES = Path(__file__).parent / "templates"
WITHOUT_ROOT = "shapes"
ROOT = "root: FOLDER"
"""The placeholder for a folder in a template."""
OWN = "folder"
"""The dataset of a folder that is looked at."""
PLACEHOLDER = f"data: {{name: {OWN}, {ROOT}, labels: labels.csv}}"
SCHEMA = "sweep.schema.json"
MODELINE = """
# yaml-language-server: $schema={schema}
# Editors complete and check this file by that one: aream schema --out {place}
"""
LABEL_AXIS = "  inference.layers: {grid: [none, shallow, all]}\n"
"""Of a template; what it compares, masks alone tell apart."""
WITHOUT_MASKS = """
# No train image has a mask, so that the threshold is set, and trainings are ranked, without ground truth; labels of one
# training cannot be, so no axis of inference or labels is tried.
labels: {background_threshold: otsu}
rank: {metric: val/map}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where sweep.yaml is written; created if missing")
    names = sorted(path.stem for path in TEMPLATES.glob("*.yaml"))
    parser.add_argument(
        "--data",
        metavar="NAME|DIR",
        default=WITHOUT_ROOT,
        help=f"{', '.join(names)}, or a folder of your own images (default: {WITHOUT_ROOT})",
    )
    parser.add_argument("--root", metavar="DIR", help="the folder the dataset lies in, or its URI")


@command(
    add_arguments,
    """
%(prog)s first
%(prog)s first --data voc2012 --root VOCdevkit/VOC2012
%(prog)s mine --data photos             # looks at the folder, and proposes how to read it
""",
    {DONE: "the file is written; the next command is printed"},
)
def main(options: argparse.Namespace) -> int:
    name, root = _named(options)
    text, said = (TEMPLATES / f"{name}.yaml").read_text(encoding="utf-8"), list[str]()
    if root is not None and name == OWN:
        text, said = _proposed(text, absolute(root, "--data"))
    elif options.root is not None:
        if options.data == WITHOUT_ROOT:
            raise ConfigError(f"--root: given {options.root!r}; {WITHOUT_ROOT} is drawn and lies in no folder")
        root = options.root if "://" in options.root else str(absolute(options.root, "--root"))
        text = text.replace(ROOT, f"root: {json.dumps(root, ensure_ascii=False)}")
    place = shlex.quote(str(options.folder / SCHEMA))
    question, gap, rest = text.partition("\n\n")
    text = f"{question}\n{MODELINE.format(schema=SCHEMA, place=place)}{gap[1:]}{rest}"
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "sweep.yaml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already and was not changed: give another folder") from error
    print(path)
    for words in said:
        print(words)
    if said:
        print(f"aream check-data {shlex.quote(str(path))} --overlays {shlex.quote(str(options.folder / 'seen.png'))}")
    if ROOT in text:
        print(f"replace FOLDER there with the folder of {name}; then:")
    print(f"aream sweep {shlex.quote(str(path))} --plan")
    return DONE


def _named(options: argparse.Namespace) -> tuple[str, str | None]:
    """Dataset, and the folder it lies in.

    Raises:
        ConfigError: neither a dataset of that name nor such a folder.
    """
    names = sorted(path.stem for path in TEMPLATES.glob("*.yaml"))
    if options.data in names:
        return options.data, options.root
    if not Path(options.data).is_dir():
        raise ConfigError(f"--data: given {options.data!r}; need {', '.join(names)}, or a folder of images")
    if options.root is not None:
        raise ConfigError(f"--root: given {options.root!r} beside the folder {options.data!r}; need one of them")
    return OWN, options.data


def _proposed(text: str, root: Path) -> tuple[str, list[str]]:
    """The template with what was seen in a folder, and what to tell of it.

    Raises:
        DataError: nothing in it can be read as images with labels.
    """
    from aream.datasets.folder import propose
    from orchestrator.submission.readable_yaml import readable

    seen = propose(root)
    data = {"name": OWN, "root": str(root), **seen.settings}
    text = text.replace(PLACEHOLDER, readable({"data": data}).rstrip())
    ids = {split: seen.dataset.ids(split) for split in ("train", "val")}
    if all(seen.dataset.mask_path(one) is None for one in ids["train"]):
        text = text.replace(LABEL_AXIS, "") + WITHOUT_MASKS
    said = [
        f"{', '.join(f'{len(found)} {split}' for split, found in ids.items())} images, "
        f"{many(len(seen.dataset.class_names), 'class')}: {', '.join(seen.dataset.class_names)}"
    ]
    said += [f"{one.kind}: {one.count}, such as {one.examples[0]}" for one in seen.found]
    said += [f"look at data.classes and data.masks: {words}" for words in seen.remarks]
    return text, said


if __name__ == "__main__":
    run(main)
