"""Pseudo-labels as other tools want them: a folder in the layout of PASCAL VOC."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from aream.errors import ConfigError
from workers.artifacts.store import ArtifactStore
from workers.files.labels import read_labels
from workers.processes import temporary
from workers.processes.atomic_write import place_folder

LABELS_FOLDER = "labels"


def export_labels(store: ArtifactStore, key: str, folder: Path) -> int:
    """Write ``SegmentationClassAug/ID.png`` and ``ImageSets/Segmentation/train_aug.txt``; returns the number of labels.

    The folder appears as a whole, or not at all.

    Raises:
        ConfigError: the artifact holds no labels, or the folder is there already.
        DataError: a label cannot be read.
    """
    names = [entry.path for entry in store.files(store.record(key)) if entry.path.startswith(f"{LABELS_FOLDER}/")]
    names = [name for name in names if name.endswith(".png")]
    if not names:
        raise ConfigError(f"{key}: holds no pseudo-labels; give the key of a pseudo_label or external_labels artifact")
    source = store.get(key)
    with written_whole(folder) as beside:
        labels, lists = beside / "SegmentationClassAug", beside / "ImageSets" / "Segmentation"
        labels.mkdir()
        lists.mkdir(parents=True)
        for name in names:
            read_labels(source / name)
            shutil.copyfile(source / name, labels / Path(name).name)
        ids = sorted(Path(name).stem for name in names)
        (lists / "train_aug.txt").write_text("".join(f"{image_id}\n" for image_id in ids), encoding="utf-8")
    return len(names)


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which is at its place once the body is done, and only then.

    Raises:
        ConfigError: it is there already, with something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already; give a new or empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = temporary.new_folder(folder.parent)
    try:
        yield beside
        place_folder(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
