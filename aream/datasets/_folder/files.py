"""Image files of a folder: found by a pattern, called by ids that stay theirs, found again by what labels call them."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from aream.data.files import unreadable
from aream.data.lists import SAFE_ID
from aream.errors import DataError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MASK_ENDINGS = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")
LONGEST_ID = 100
WILD = set("*?[")


def files_under(root: Path, folder: str = "") -> Iterator[str]:
    """Every file, relative to the root and in order; folders that are links are followed, in no circle.

    Raises:
        DataError: the folder cannot be read.
    """
    yield from _walk(root / folder, PurePosixPath(folder), frozenset())


def _walk(path: Path, name: PurePosixPath, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    try:
        here = path.stat()
        entries = sorted(path.iterdir())
    except OSError as error:
        raise unreadable(shown(str(path)), error, f"cannot be read as a folder ({error.strerror or error})") from error
    if (here.st_dev, here.st_ino) in above:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _walk(entry, name / entry.name, above | {(here.st_dev, here.st_ino)})
        else:
            yield str(name / entry.name)


def fixed_part(pattern: str) -> str:
    """The folders that a pattern begins with, before anything in it may vary; empty: the root."""
    parts = PurePosixPath(pattern).parts
    fixed = next((at for at, part in enumerate(parts) if WILD & set(part)), len(parts))
    return "/".join(parts[:fixed])


def matching(root: Path, pattern: str) -> tuple[str, list[str]]:
    """The folder that all files lie in, and the files of a pattern, or of a folder with all in it.

    Raises:
        DataError: there is no such folder.
    """
    base = fixed_part(pattern)
    if base == pattern and (root / base).is_file():
        return base.rpartition("/")[0], [base]
    if not (root / base).is_dir():
        raise DataError(f"{root / base}: no such folder")
    parts = PurePosixPath(pattern).parts[len(PurePosixPath(base).parts) :] or ("**",)
    wanted = (*parts, "*") if parts[-1] == "**" else parts
    return base, [
        path for path in files_under(root, base) if _fits(PurePosixPath(path).relative_to(base).parts, wanted)
    ]


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[at:], pattern[1:]) for at in range(len(parts) + 1))
    if not parts or not fnmatchcase(_lower_ending(parts[0]), _lower_ending(pattern[0])):
        return False
    return _fits(parts[1:], pattern[1:])


def _lower_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f"{stem}{dot}{ending.lower()}"


def is_hidden(path: str) -> bool:
    """Return True for what file managers hide, such as ``._photo.jpg`` and ``__MACOSX``."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(path).parts)


def without_ending(path: str) -> str:
    """The path without the ending of an image, if it has one."""
    suffix = PurePosixPath(path).suffix
    return path[: -len(suffix)] if suffix.lower() in IMAGE_ENDINGS else path


def image_id(path: str) -> str:
    """An id that is safe as a file name, made from a path without ending and nothing else: it is the name where that is
    safe, folders joined by ``__``; else something like it, with a digest."""
    plain = path.replace("/", "__")
    if "__" not in path and len(plain) <= LONGEST_ID and SAFE_ID.fullmatch(plain) and ".." not in plain:
        return plain
    digest = hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:16]
    kept = re.sub(r"\.{2,}|[^A-Za-z0-9._-]+", "-", plain).lstrip("._-")[: LONGEST_ID - len(digest) - 2]
    return f"{kept or 'image'}--{digest}"


def shown(text: str) -> str:
    """A name as text that can be printed on one line, whatever bytes it is made of."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)


class Names:
    """Files by the names that label tables and lists may call them: with or without folders and ending, in either
    Unicode form, with slashes of either kind, or after the folder's own name."""

    def __init__(self, root: Path, paths: Iterable[str]) -> None:
        """``paths`` are relative to the root."""
        self.root = root
        self._named: dict[str, list[str]] = {}
        self._whole: dict[str, str] = {}
        for path in paths:
            whole = normal(path)
            for name in dict.fromkeys((whole, without_ending(whole))):
                self._whole.setdefault(name, path)
                parts = name.split("/")
                for at in range(1, len(parts)):
                    self._named.setdefault("/".join(parts[at:]), []).append(path)

    def whole(self, name: str) -> str | None:
        """The file of this path from the root, with or without ending."""
        return self._whole.get(normal(name))

    def find(self, name: str) -> str | None:
        """The one file that is meant; None: there is none.

        Raises:
            DataError: several can be meant.
        """
        wanted = normal(name)
        for text in dict.fromkeys((wanted, wanted.rpartition(f"/{normal(self.root.name)}/")[2])):
            if text in self._whole:
                return self._whole[text]
            found = self._named.get(text, [])
            if len(found) > 1:
                raise DataError(
                    f"{shown(name)!r} may be {' or '.join(shown(path) for path in found[:3])}; name the image with its "
                    "folders"
                )
            if found:
                return found[0]
        return None


def normal(name: str) -> str:
    """A path in one Unicode form and with one kind of slash: file systems and tables differ in both."""
    text = unicodedata.normalize("NFC", name).replace("\\", "/")
    return re.sub(r"/+", "/", text.removeprefix("./"))
