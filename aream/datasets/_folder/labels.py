"""Image labels of a folder, whichever way they are kept: each image with the names of its classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float32

from aream.data.files import refuse_link_out
from aream.data.findings import Findings
from aream.data.reading import in_threads
from aream.datasets._annotations import object_names
from aream.datasets._folder.classes import Classes, of_names, read_classes
from aream.datasets._folder.config import BACKGROUND_NAME, FOLDERS, FROM_MASKS, Config, Labels
from aream.datasets._folder.files import Names, files_under, normal, shown
from aream.datasets._folder.masks import MaskReader, classes_shown
from aream.datasets._folder.pairs import Pairs
from aream.datasets._folder.tables import Row, Table, read_csv, read_json
from aream.datasets._label_files import read_label_table
from aream.errors import DataError, DataUnavailable
from aream.metrics import IGNORE

CSV_ENDINGS, DICT_ENDINGS = (".csv", ".tsv"), (".npy", ".npz")


@dataclass(frozen=True)
class Labelled:
    classes: Classes
    vectors: Mapping[str, Float32[np.ndarray, " c"]]
    """Labels by id; an image that nothing is said of has none."""
    splits: Mapping[str, str]
    """What the table's column says, by id."""
    source: str
    reader: MaskReader | None


def read_labels(root: Path, config: Config, pairs: Pairs, found: Findings) -> Labelled:
    """Read labels and classes; what single images lack is ``found``.

    Raises:
        DataError: a file that cannot be read, or that says no class.
    """
    given = _given_classes(root, config)
    masks = config.mask_files
    if config.labels == FROM_MASKS:
        if given is None:
            raise DataError("data.classes: labels from_masks need the names of the classes")
        assert masks is not None
        reader = MaskReader(masks, given)
        return Labelled(given, _of_masks(root, pairs, given, reader, found), {}, "the masks", reader)
    if config.labels == FOLDERS:
        table, source = _of_folders(pairs, given, config.no_class), "the names of folders"
    else:
        table = _of_file(root, config.label_files, pairs, given, config.split.column, found)
        source = str(root / config.label_files.file)
    if given is None and masks is not None and masks.rgb is None and masks.binary is None:
        raise DataError("data.classes: masks hold ids; give the names in their order, or a file of ids and names")
    classes = given or _named_classes(table, config.no_class, source)
    rows = _by_image(root, table.rows, pairs, config, found)
    vectors = {}
    for one, row in rows.items():
        vector = _vector(row, classes, config.no_class, found)
        if vector is not None:
            vectors[one] = vector
    splits = {one: row.split for one, row in rows.items() if row.split is not None}
    return Labelled(classes, vectors, splits, source, None if masks is None else MaskReader(masks, classes))


def _given_classes(root: Path, config: Config) -> Classes | None:
    masks = config.mask_files
    if config.classes is None and config.labels == FROM_MASKS and masks is not None and masks.rgb is not None:
        return of_names([name for name in masks.rgb if name != BACKGROUND_NAME], "data.masks.rgb")
    if config.classes is None:
        return None
    if isinstance(config.classes, str):
        return read_classes(_inside(root, config.classes))
    return of_names(config.classes, "data.classes")


def _named_classes(table: Table, no_class: Sequence[str], source: str) -> Classes:
    named = table.names or sorted({name for row in table.rows for name in row.names})
    return of_names([name for name in named if name not in no_class], source)


def _inside(root: Path, place: str) -> Path:
    path = root / place
    refuse_link_out(path, (root, path.parent))
    return path


def _of_file(
    root: Path, asked: Labels, pairs: Pairs, classes: Classes | None, split: str | None, found: Findings
) -> Table:
    path = _inside(root, asked.file)
    ending = path.suffix.lower()
    if ending in CSV_ENDINGS:
        return read_csv(path, asked, split)
    if ending == ".json":
        return read_json(path, asked, split)
    if split is not None:
        raise DataError(f"data.split.column: {path} has no columns; give lists as split.train and split.val")
    if path.is_dir():
        return _of_annotations(root, str(PurePosixPath(asked.file)), found)
    if ending not in DICT_ENDINGS:
        raise DataError(
            f"data.labels: {path}: need {FOLDERS}, {FROM_MASKS}, a folder of XML, or a file that ends with "
            f"{', '.join((*CSV_ENDINGS, '.json', *DICT_ENDINGS))}"
        )
    if classes is None:
        raise DataError(f"data.classes: {path} has numbers and no names; give the names in their order")
    numbers = read_label_table(path, len(classes.names), str)
    names = {key: tuple(classes.names[k] for k in np.flatnonzero(vector)) for key, vector in numbers.items()}
    return Table([Row(f"{path}: {shown(key)!r}", key, names[key]) for key in numbers])


def _of_annotations(root: Path, folder: str, found: Findings) -> Table:
    """Every XML file of a folder, called as its image."""
    rows = []
    for path in files_under(root, folder):
        if path.lower().endswith(".xml"):
            try:
                names = tuple(dict.fromkeys(object_names(root / path)))
                rows.append(Row(shown(path), path.removeprefix(f"{folder}/")[: -len(".xml")], names))
            except DataUnavailable:
                raise
            except DataError as error:
                found.add("labels", "images have no usable annotation", shown(str(error)))
    return Table(rows)


def _of_folders(pairs: Pairs, classes: Classes | None, no_class: Sequence[str]) -> Table:
    """An image is of the class that its folder is called as: the nearest one that is called as any."""
    known = None if classes is None else {*classes.names, *no_class}
    rows = []
    for path in pairs.images.values():
        own = path.removeprefix(f"{pairs.base}/") if pairs.base else path
        above = [normal(part) for part in reversed(PurePosixPath(own).parts[:-1])]
        named = above[:1] if known is None else [name for name in above if name in known][:1]
        if named:
            rows.append(Row(shown(path), path, (named[0],)))
    return Table(rows)


def _of_masks(
    root: Path, pairs: Pairs, classes: Classes, reader: MaskReader, found: Findings
) -> dict[str, Float32[np.ndarray, " c"]]:
    def look(one: str) -> Float32[np.ndarray, " c"] | DataError:
        try:
            shows = np.frombuffer(classes_shown(reader, root / pairs.masks[one]), dtype=np.uint8)
        except DataError as error:
            return error
        vector = np.zeros(len(classes.names), dtype=np.float32)
        vector[shows[(shows > 0) & (shows < IGNORE)] - 1] = 1
        return vector

    vectors = {}
    for one, seen in zip(pairs.masks, in_threads(look, pairs.masks), strict=True):
        if isinstance(seen, DataError):
            found.add("masks", "masks cannot be used", seen)
        else:
            vectors[one] = seen
    return vectors


def _by_image(root: Path, rows: Sequence[Row], pairs: Pairs, config: Config, found: Findings) -> dict[str, Row]:
    """Rows by the id of their image."""
    find, mine = name_finder(root, pairs), dict[str, Row]()
    for row in rows:
        try:
            one = find(row.image)
        except DataError as error:
            found.add("labels", "labels may be of several images", f"{row.where}: {error}")
            continue
        if one is None:
            words = f"{row.where}: no image {shown(row.image[:120])!r}"
            found.add("labels", "labels are of no image", words, hard=config.missing == "refuse")
        elif one not in mine:
            mine[one] = row
        elif (set(mine[one].names), mine[one].split) != (set(row.names), row.split):
            words = f"{row.where}: {shown(row.image[:120])!r} is also at {mine[one].where}, with other labels"
            found.add("labels", "labels of one image differ; need one row an image, with all its classes", words)
    return mine


def name_finder(root: Path, pairs: Pairs) -> Callable[[str], str | None]:
    """Return what gives the id of the image that a list or table names; None: none. What it returns raises
    ``DataError`` where a name may be several images'."""
    names, ids = Names(root, pairs.images.values()), {path: one for one, path in pairs.images.items()}
    base = f"{pairs.base}/" if pairs.base else ""

    def find(name: str) -> str | None:
        own = normal(name)
        for text in (f"{base}{own}", own):  # what stands in the images' own folder, first
            path = names.whole(text)
            if path is not None:
                return ids[path]
        path = names.find(own)
        return None if path is None else ids[path]

    return find


def _vector(row: Row, classes: Classes, no_class: Sequence[str], found: Findings) -> Float32[np.ndarray, " c"] | None:
    vector = np.zeros(len(classes.names), dtype=np.float32)
    own = [name for name in row.names if name not in no_class]
    if own and len(own) < len(row.names):
        words = f"{row.where}: {', '.join(map(shown, row.names))}"
        found.add("labels", "labels say no class and a class", words)
        return None
    try:
        vector[[classes.number(name, row.where) for name in own]] = 1
    except DataError as error:
        found.add("labels", "labels name an unknown class", str(error))
        return None
    return vector
