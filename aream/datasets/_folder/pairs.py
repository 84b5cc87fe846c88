"""Images of a folder, each with the mask that is called as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aream.data.files import refuse_link_out
from aream.data.findings import Check, Findings
from aream.datasets._folder.config import PLACEHOLDERS, Config
from aream.datasets._folder.files import (
    IMAGE_ENDINGS,
    MASK_ENDINGS,
    files_under,
    image_id,
    is_hidden,
    matching,
    normal,
    shown,
    without_ending,
)
from aream.errors import DataError

LINKS = "files are links that lead out of the root, or nowhere"


@dataclass(frozen=True)
class Pairs:
    base: str
    """The folder that all images lie in, relative to the root."""
    images: Mapping[str, str]
    """Id -> image, relative to the root, in the order of their paths."""
    masks: Mapping[str, str]
    """Id -> mask of those that have one."""


def find_pairs(root: Path, config: Config, found: Findings) -> Pairs:
    """Find what the patterns name.

    Raises:
        DataError: a folder that is not there, or no image at all.
    """
    base, files = matching(root, config.images)
    candidates = _images(files, found)
    masks = _Masks(root, config, base, candidates)
    images = [path for path in candidates if not masks.is_mask(path)]
    if not images:
        raise DataError(
            f"{root}: no image for data.images {config.images!r}; looked at {len(files)} files for "
            f"{', '.join(IMAGE_ENDINGS)}"
        )
    usable = [path for path in images if not _leads_out("images", root, path, found)]
    ids = _ids(base, usable, found)
    paired = masks.of_images(ids, found)
    return Pairs(base, ids, {one: path for one, path in paired.items() if not _leads_out("masks", root, path, found)})


def _images(files: Sequence[str], found: Findings) -> list[str]:
    """Those whose ending is an image's and that no file manager hides."""
    images, others = [], 0
    for path in files:
        if not path.lower().endswith(IMAGE_ENDINGS):
            others += 1
        elif is_hidden(path):
            found.leave_out("images", "hidden files are no images", shown(path))
        else:
            images.append(path)
    if others:
        found.notes.append(("images", "", f"{others} files with other endings are no images"))
    return images


def _ids(base: str, images: Sequence[str], found: Findings) -> dict[str, str]:
    """What cannot be told apart is left out, and wrong."""
    named: dict[str, list[str]] = {}
    for path in images:
        own = path.removeprefix(f"{base}/") if base else path
        named.setdefault(image_id(normal(without_ending(own))), []).append(path)
    for paths in named.values():
        if len(paths) > 1:
            words = " and ".join(shown(path) for path in paths[:4])
            found.add("images", "images have one name but for the ending", words)
    return {one: paths[0] for one, paths in named.items() if len(paths) == 1}


def _leads_out(check: Check, root: Path, path: str, found: Findings) -> bool:
    file = root / path
    try:
        refuse_link_out(file, (root, file.parent))
    except DataError as error:
        found.add(check, LINKS, shown(str(error)))
        return True
    return False


class _Masks:
    """Mask files by what they are called."""

    def __init__(self, root: Path, config: Config, base: str, candidates: Sequence[str]) -> None:
        files = config.mask_files
        self.patterns: tuple[str, ...] = ()
        self.base, self.folder, self.named = base, None, dict[str, str]()
        self.mine: set[str] = set()
        if files is None:
            return
        pattern = files.files.removesuffix("/")
        placed = any(placeholder in pattern for placeholder in PLACEHOLDERS)
        self.patterns = (pattern,) if placed else tuple(f"{pattern}/{one}" for one in PLACEHOLDERS)
        folder = pattern.partition("{")[0].rpartition("/")[0] if placed else pattern
        if not (root / folder).is_dir():
            raise DataError(f"data.masks: {root / folder}: no such folder")
        self.folder = str(PurePosixPath(folder)) if PurePosixPath(folder).parts else ""
        self.named = {normal(path): path for path in files_under(root, self.folder)
                      if path.lower().endswith(MASK_ENDINGS) and not is_hidden(path)}  # fmt: skip
        if self._apart():
            return
        if placed:
            self.mine = {path for image in candidates for path in self._called_as(image)}
        else:
            for image in candidates:  # in one folder, the pattern of the images tells which they are
                self.named.pop(normal(image), None)

    def _apart(self) -> bool:
        """Return True if masks have a folder without images of their own."""
        return bool(self.folder) and not f"{self.base}/".startswith(f"{self.folder}/")

    def is_mask(self, path: str) -> bool:
        if self._apart():
            return path.startswith(f"{self.folder}/")
        return path in self.mine

    def of_images(self, images: Mapping[str, str], found: Findings) -> dict[str, str]:
        """Masks by id; tells of masks without an image."""
        masks: dict[str, str] = {}
        owners: dict[str, str] = {}
        for one, image in images.items():
            paths = self._called_as(image)
            if len(paths) > 1:
                words = f"{shown(image)}: {' and '.join(shown(path) for path in paths)}"
                found.add("masks", "images have several masks", words)
            elif paths and paths[0] in owners:
                words = f"{shown(paths[0])}: {shown(owners[paths[0]])} and {shown(image)}; call it by the folders too"
                found.add("masks", "masks are called as several images", words)
            elif paths:
                masks[one], owners[paths[0]] = paths[0], image
        if self._apart() or self.mine:
            mine = self.named.values() if self._apart() else self.mine
            for path in sorted({*mine} - owners.keys()):
                found.add("masks", "masks have no image", shown(path), hard=False)
        return masks

    def _called_as(self, image: str) -> list[str]:
        """Masks of the first pattern that finds one."""
        own = normal(without_ending(image.removeprefix(f"{self.base}/") if self.base else image))
        for pattern in self.patterns:
            wanted = pattern.replace("{path}", own).replace("{name}", own.rpartition("/")[2])
            endings = ("",) if PurePosixPath(pattern).suffix.lower() in MASK_ENDINGS else MASK_ENDINGS
            names = [normal(f"{wanted}{ending}") for ending in endings]
            paths = [path for name in names for path in self._named_alike(name) if path != image]
            if paths:
                return list(dict.fromkeys(paths))
        return []

    def _named_alike(self, name: str) -> list[str]:
        """Endings in any case."""
        stem, dot, ending = name.rpartition(".")
        cases = (name, f"{stem}{dot}{ending.upper()}", f"{stem}{dot}{ending.capitalize()}")
        return [self.named[other] for other in cases if other in self.named]
