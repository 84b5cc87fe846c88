"""Whatever a folder looks like: the right labels, or an error that names a file; nothing is lost without a word."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from aream.data.findings import Findings
from aream.datasets import folder
from aream.datasets._folder.files import image_id, shown
from aream.datasets._folder.splits import draws_val
from aream.errors import DataError

NAMES = ("polyp", "große Läsion", "c,d;")
SEPARATOR = " & "
SOME = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
LETTERS = st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["Cs", "Cc"])
STEMS = st.text(LETTERS, min_size=1, max_size=12).filter(lambda name: name.strip() == name and not name.startswith("."))
ENDINGS = st.sampled_from([".jpg", ".JPG", ".jpeg", ".png", ".PNG", ".webp", ".tif", ".bmp"])
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".bmp": "BMP"}


@st.composite
def images(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    """Classes by path under ``images``."""
    stems = draw(st.lists(STEMS, min_size=1, max_size=6, unique_by=lambda name: name.casefold()))
    folders = st.sampled_from(["", "a/", "b c/", "a/ü/"])
    present = st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple)
    return {f"{draw(folders)}{stem}{draw(ENDINGS)}": draw(present) for stem in stems}


@contextmanager
def written(found: dict[str, tuple[str, ...]]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "own"
        (root / "images").mkdir(parents=True)
        for number, path in enumerate(found):
            target = root / "images" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                Image.new("RGB", (4, 4), (number, 0, 0)).save(target, FORMATS[target.suffix.lower()])
            except OSError:  # a name that is too long here
                pytest.skip("the file system takes no such name")
        yield root


def table(rows: list[tuple[str, tuple[str, ...]]], newline: str, mark: bool) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=newline)
    writer.writerow(["image", "labels"])
    writer.writerows((name, SEPARATOR.join(names)) for name, names in rows)
    return text.getvalue().encode("utf-8-sig" if mark else "utf-8")


def settings_of(root: Path, **more: object) -> folder.Config:
    labels = folder.Labels(file="l.csv", separator=SEPARATOR)
    return folder.Config(root=str(root), images="images", classes=NAMES, labels=labels, **more)


def told(dataset: folder.Folder, root: Path) -> dict[str, tuple[str, ...]]:
    return {
        dataset.image_path(one).relative_to(root / "images").as_posix(): tuple(
            NAMES[k] for k in np.flatnonzero(dataset.labels(one))
        )
        for split in ("train", "val")
        for one in dataset.ids(split)
    }


@pytest.mark.slow
@SOME
@given(images(), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.randoms(use_true_random=False))
def test_a_table_gives_the_right_labels_or_an_error(found, newline, mark, random):
    """Rows in any order, some missing, some of images that are not there."""
    with written(found) as root:
        kept = [path for path in found if random.random() < 0.8]
        rows = [(path, found[path]) for path in kept] + [("nowhere/none.png", (NAMES[0],))]
        random.shuffle(rows)
        (root / "l.csv").write_bytes(table(rows, newline, mark))
        findings = Findings()
        try:
            dataset = folder.survey(settings_of(root), findings)
        except DataError:
            assert not kept, "no label is of an image"
            return
        got = told(dataset, root)
        assert got == {path: tuple(name for name in NAMES if name in found[path]) for path in kept}
        assert {path.removeprefix("images/") for path in dataset.left_out} == {
            shown(path) for path in found.keys() - got.keys()
        }
        assert sum(one.count for one in findings if one.kind == "labels are of no image") == 1


@pytest.mark.slow
@SOME
@given(images(), st.binary(max_size=120))
def test_any_bytes_for_a_table_give_labels_or_one_error(found, content):
    with written(found) as root:
        (root / "l.csv").write_bytes(content)
        findings = Findings()
        try:
            dataset = folder.survey(settings_of(root), findings)
        except DataError as error:
            told_of = str(error)
        else:
            told_of = " ".join(words for one in findings for words in one.examples)
            assert told(dataset, root) or findings.hard
        assert "l.csv" in told_of or "lists" in told_of


@pytest.mark.slow
@SOME
@given(images())
def test_the_same_stem_twice_is_refused_and_nothing_else_is(found):
    with written(found) as root:
        first = next(iter(found))
        other = Path(first).with_suffix(".png" if Path(first).suffix.lower() != ".png" else ".bmp")
        Image.new("RGB", (4, 4)).save(root / "images" / other)
        (root / "l.csv").write_bytes(table([(path, found[path]) for path in found], "\n", False))
        with pytest.raises(DataError, match="one name but for the ending"):
            folder.build(settings_of(root))


PARTS = st.one_of(STEMS, st.sampled_from(["a", "a__b", "a/b", "A", "..", "-x"]))
PATHS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


@given(st.lists(PATHS, unique=True, max_size=20))
def test_ids_are_file_names_and_no_two_are_one(paths):
    ids = [image_id(path) for path in paths]
    assert len(set(ids)) == len(paths)
    for one in ids:
        assert one.isascii()
        assert one[0].isalnum()
        assert ".." not in one
        assert len(one) <= 128
        assert not set(one) & set("/\\ \n:")


@given(st.sets(st.text(min_size=1), max_size=50), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_larger_share_draws_the_same_and_more(ids, share, seed):
    fewer, more = ({one for one in ids if draws_val(one, part, seed)} for part in (share / 2, share))
    assert fewer <= more


def test_the_share_that_is_drawn():
    drawn = sum(draws_val(str(number), 0.2, 0) for number in range(5000))
    assert abs(drawn / 5000 - 0.2) < 0.03  # five standard deviations
