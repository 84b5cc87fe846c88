"""How somebody's folder is likely to be read: its images, their masks, and no more looking than that takes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from aream.datasets import folder
from aream.datasets._folder import proposal

FOLDERS, FILES = 6, 3


@pytest.fixture
def read(monkeypatch):
    """How often each file was decoded."""
    found, real = Counter(), proposal.read_bounded

    def counted(path):
        found[path] += 1
        return real(path)

    monkeypatch.setattr(proposal, "read_bounded", counted)
    return found


def write(folder, draw):
    """Files that are called alike in every folder."""
    folder.mkdir(parents=True)
    for number in range(FILES):
        Image.fromarray(draw()).save(folder / f"{number:03d}.png")


def photo():
    return np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def mask():
    return np.arange(144, dtype=np.uint8).reshape(12, 12) // 72


def test_a_file_is_decoded_once_for_the_folder_it_is_in(tmp_path, read):
    for number in range(FOLDERS):
        write(tmp_path / f"case{number}", photo)
    proposal.candidates(tmp_path)
    assert set(read.values()) == {1}
    assert len(read) == FOLDERS, "one look tells a photo"


def test_masks_are_found_among_many_folders_whose_files_are_called_alike(tmp_path, read):
    for number in range(FOLDERS):
        write(tmp_path / "images" / f"case{number}", photo)
        write(tmp_path / "truth" / f"case{number}", mask)
    found = proposal.candidates(tmp_path)
    assert {(each["images"], each["masks"]) for each in found.settings} == {("images", "truth")}
    depth_and_the_values_of_masks = 3
    assert max(read.values()) <= depth_and_the_values_of_masks


def test_masks_beside_their_images_are_told_by_their_ending(tmp_path):
    for name, draw in (("a", photo), ("a_mask", mask), ("b", photo), ("b_mask", mask), ("_mask", photo)):
        Image.fromarray(draw()).save(tmp_path / f"{name}.png")
    found = proposal.candidates(tmp_path)
    assert {(each["images"], each["masks"]) for each in found.settings} == {("**", "{path}_mask.png")}


def test_masks_in_a_folder_of_their_own_are_told_by_their_ending_too(tmp_path):
    for place, ending, draw in (("input", "", photo), ("truth", "_segmentation", mask)):
        (tmp_path / place).mkdir()
        for name in "ab":
            Image.fromarray(draw()).save(tmp_path / place / f"ISIC_{name}{ending}.png")
    found = proposal.candidates(tmp_path)
    assert [(each["images"], each["masks"], each["labels"]) for each in found.settings] == [
        ("input", "truth/{name}_segmentation.png", "from_masks")
    ]
    assert not found.outside


def test_pictures_that_the_proposal_does_not_read_are_told(tmp_path):
    """No pattern of masks says that of images in several folders, each with its own."""
    for split, count in (("train", 6), ("val", 4)):
        for number in range(count):
            for place, draw in (("images", photo), ("masks", mask)):
                (tmp_path / split / place).mkdir(parents=True, exist_ok=True)
                Image.fromarray(draw()).save(tmp_path / split / place / f"{split}{number}.png")
    found = folder.propose(tmp_path)
    assert (found.settings["images"], found.settings["masks"]) == ("train/images", "train/masks")
    (told,) = [one for one in found.found if "outside" in one.kind]
    assert (told.count, told.hard, told.examples[0]) == (8, False, "val/images/val0.png")


def test_names_are_not_held_against_each_other(tmp_path):
    """All pairs of so many would take half a minute."""
    assert proposal._pair(tmp_path, [f"{number}.png" for number in range(20_000)]) == ("", None)
