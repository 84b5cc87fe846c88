"""What a sweep file says about a folder of images. Nothing here is part of an identity: what is read by it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

from aream.config import config, fingerprinted, location, setting
from aream.errors import ConfigError
from aream.metrics import IGNORE, LEAST_CLASSES

BACKGROUND_NAME = "background"
MOST_CLASSES = IGNORE - 1
FOLDERS, FROM_MASKS = "folders", "from_masks"
PLACEHOLDERS = ("{path}", "{name}")
Colour = tuple[int, int, int]


@config
class Masks:
    files: str
    """Folder under the root, where a mask is called as its image but for the ending; or their pattern, such as
    ``masks/{name}_mask.png``: ``{name}`` is the image's file name without ending, ``{path}`` with its folders."""
    stored: Literal["index", "palette"] = "index"
    """``index``: values are class ids, 0 the background; ``palette``: the same, also in PASCAL VOC's colours."""
    rgb: Mapping[str, Colour] | None = None
    """Colour of each class, and of ``background`` where that is not black; instead of ``stored``."""
    binary: int | None = None
    """Value of the pixels of the only class, all others 0 (or, where this is 0, any); instead of ``stored``."""
    ignore: int | Colour | Literal["none"] | None = None
    """Value or colour of pixels that count nowhere; null: 255 of ``index`` and ``palette``, else none."""

    def __post_init__(self) -> None:
        check_pattern("files", self.files)
        if self.rgb is not None and self.binary is not None:
            raise ConfigError("rgb, binary: need one of them, got both")
        if (self.rgb is not None or self.binary is not None) and self.stored != "index":
            raise ConfigError(f"stored: {self.stored} goes with neither rgb nor binary; leave it out")
        values = [value for value in (self.binary, self.ignore) if isinstance(value, int)]
        triples = [*(self.rgb or {}).values(), *([self.ignore] if isinstance(self.ignore, tuple) else [])]
        if not all(0 <= value <= 255 for value in [*values, *(part for triple in triples for part in triple)]):
            raise ConfigError("rgb, binary, ignore: need values in 0..255")
        if self.rgb is not None and len(set(triples)) < len(triples):
            raise ConfigError(
                f"rgb: need different colours, also of ignore, got {[list(triple) for triple in triples]}"
            )
        if self.rgb is not None and isinstance(self.ignore, int):
            raise ConfigError(f"ignore: need a colour [r, g, b] beside rgb, got {self.ignore}")
        if self.rgb is None and isinstance(self.ignore, tuple):
            raise ConfigError(f"ignore: a colour needs rgb beside it; got {list(self.ignore)}")
        if self.binary is not None and self.binary == self.ignore:
            raise ConfigError(f"binary, ignore: need two values, got {self.binary} twice")

    @property
    def ignored(self) -> int | Colour | None:
        if self.ignore is None:
            return IGNORE if self.rgb is None and self.binary is None else None
        return None if self.ignore == "none" else self.ignore


@config
class Labels:
    file: str
    """Under the root: CSV or TSV with a row an image, JSON, COCO's annotations, a dict in ``.npy`` or ``.npz``, or a
    folder of PASCAL VOC's XML."""
    image: str | None = None
    """Column that names the image; null: the first one."""
    classes: str | None = None
    """Column of its classes' names; null: ``labels``, ``label``, ``classes``, ``class``, ``tags`` or ``categories``,
    else the columns are classes and hold 0 or 1."""
    separator: str | None = None
    """Between several names; null: ``;`` or ``|``."""

    def __post_init__(self) -> None:
        check_relative("file", self.file)
        if self.separator == "":
            raise ConfigError("separator: need a text of one character or more, or null")


@config
class Split:
    val: float | str | None = None
    """Share of the images in (0, 1), drawn by a hash of each name and the seed, so that no image moves when others are
    added; or a list of names or a folder, under the root. null: a fifth, unless ``column`` is given."""
    train: str | None = None
    """List of names or a folder; what is in neither is left out. null: all images that are not val."""
    column: str | None = None
    """Column of the label table, or key of a record, that says ``train`` or ``val``; others are left out."""
    seed: int = 0
    """Of the drawing."""

    def __post_init__(self) -> None:
        if self.column is not None and (self.val is not None or self.train is not None):
            raise ConfigError("column: need it alone, without val and train")
        if self.train is not None and not isinstance(self.val, str):
            raise ConfigError(f"train, val: need a list or folder of val beside that of train, got {self.val}")
        if isinstance(self.val, float | int) and not 0 < self.val < 1:
            raise ConfigError(f"val: need a share in (0, 1), a list or a folder, got {self.val}")
        for key, place in (("train", self.train), ("val", self.val)):
            if isinstance(place, str):
                check_relative(key, place)

    @property
    def share(self) -> float:
        return 0.2 if self.val is None else float(self.val)


@config
class Config:
    """Any folder of images, whatever it is called inside; every other path is relative to the ``root``."""

    root: str = location()
    """The folder, or the URI of one."""
    images: str = fingerprinted("**")
    """Folder of the images, its folders included, or a pattern such as ``photos/**/*.jpg``; ``**`` is any folders.
    Endings jpg, jpeg, png, webp, bmp, tif and tiff in any case. Masks that it finds too are no images."""
    classes: str | tuple[str, ...] | None = fingerprinted(None)
    """Names of the classes: mask ids 1, 2, ...; or a file of them, a name a line, or JSON of ids and names. A first
    ``background`` has the id 0. null: all that the labels name, in alphabetical order or that of their table; masks of
    ids need more than that."""
    labels: str | Labels = fingerprinted()
    """Of images: a file or section as below; ``folders``: an image's folder is called as its class; ``from_masks``:
    what the mask shows."""
    no_class: tuple[str, ...] = fingerprinted(())
    """Names in labels that mean an image without any class, such as ``normal``."""
    masks: str | Masks | None = fingerprinted(None)
    """Ground truth, of as many images as have one; null: none."""
    split: Split = fingerprinted(Split())
    """What is ``train`` and what is ``val``. Drawn val images are some that have a mask, where there are masks."""
    missing: Literal["leave_out", "refuse"] = fingerprinted("leave_out")
    """Treatment of images without a label, and of labels without an image: left out and told, or an error."""
    scored_classes: tuple[int, ...] | None = None
    """Mask ids over which the headline mIoU is averaged, 0 is background; null: all."""
    cache: Literal["none", "memory", "device"] | None = setting(None)
    """Where a node keeps decoded images for all that read them, as of voc2012."""

    def __post_init__(self) -> None:
        check_relative("images", self.images)
        for key, place in (("classes", self.classes), ("labels", self.labels)):
            if isinstance(place, str):
                check_relative(key, place)
        if isinstance(self.masks, str):
            check_pattern("masks", self.masks)
        if self.labels == FROM_MASKS and self.masks is None:
            raise ConfigError("labels: from_masks needs masks")
        scored = self.scored_classes
        if scored is not None and (
            len(scored) < LEAST_CLASSES
            or len(set(scored)) < len(scored)
            or not 0 <= min(scored) <= max(scored) < IGNORE
        ):
            raise ConfigError(f"scored_classes: need {LEAST_CLASSES} or more different mask ids, got {list(scored)}")

    @property
    def mask_files(self) -> Masks | None:
        return Masks(files=self.masks) if isinstance(self.masks, str) else self.masks

    @property
    def label_files(self) -> Labels:
        """Raises nothing where the labels are no files: their ``file`` then says what they are."""
        return Labels(file=self.labels) if isinstance(self.labels, str) else self.labels


def check_relative(key: str, place: str) -> None:
    """
    Raises:
        ConfigError: it leads out of the root, or nowhere.
    """
    path = PurePosixPath(place)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in place:
        raise ConfigError(f"{key}: need a path under the root, got {place!r}")


def check_pattern(key: str, pattern: str) -> None:
    """
    Raises:
        ConfigError: as of :func:`check_relative`, or it has other braces than those of the placeholders.
    """
    plain = pattern
    for placeholder in PLACEHOLDERS:
        plain = plain.replace(placeholder, "x")
    if "{" in plain or "}" in plain:
        raise ConfigError(f"{key}: need no braces but {' and '.join(PLACEHOLDERS)}, got {pattern!r}")
    check_relative(key, plain)
