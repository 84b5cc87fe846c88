"""One sweep file for machines that keep their data in different places."""

from __future__ import annotations

import pytest
from small_voc import write_voc

from aream.backbones import mctformer_v2
from aream.config import Component, canonical
from aream.datasets import voc2012
from aream.errors import ConfigError
from aream.segmenters import deeplab
from workers.components import build_dataset
from workers.staging.locations import PATH_MAP, local_path, localised, locations
from workers.trial import SegmentationConfig, TrialConfig


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/data/VOC2012", "/mnt/nvme/VOC2012"),
        ("/data", "/mnt/nvme"),
        ("/data/weights/vit.pth", "/opt/weights/vit.pth"),
        ("/database/VOC2012", "/database/VOC2012"),
        ("/elsewhere/data", "/elsewhere/data"),
    ],
)
def test_the_longest_whole_folder_counts(monkeypatch, location, expected):
    monkeypatch.setenv(PATH_MAP, "/data=/mnt/nvme:/data/weights=/opt/weights")
    assert local_path(location) == expected


def test_without_a_map_paths_are_what_they_are(monkeypatch):
    monkeypatch.delenv(PATH_MAP, raising=False)
    assert local_path("/data/VOC2012") == "/data/VOC2012"


@pytest.mark.parametrize("text", ["/data", "data=/mnt", "/data=mnt", "=", "/data=/mnt:x"])
def test_an_impossible_map(monkeypatch, text):
    monkeypatch.setenv(PATH_MAP, text)
    with pytest.raises(ConfigError, match=PATH_MAP):
        local_path("/data/VOC2012")


def test_only_locations_move_and_identity_stays(monkeypatch):
    monkeypatch.setenv(PATH_MAP, "/data=/mnt")
    trial = TrialConfig(
        data=Component(name="voc2012", config=voc2012.Config(root="/data/VOC2012", train_list="/data/mine.txt")),
        backbone=Component(name="mctformer_v2", config=mctformer_v2.Config(weights="/data/vit.pth")),
    )
    moved = localised(trial)
    assert list(locations(trial)) == ["/data/VOC2012", "/data/mine.txt", "/data/vit.pth"]
    assert list(locations(moved)) == ["/mnt/VOC2012", "/mnt/mine.txt", "/mnt/vit.pth"]
    assert canonical(moved) == canonical(trial)


@pytest.mark.parametrize("weights", ["pretrained", "embedded"])
def test_weights_of_a_hub_or_the_package_are_no_place(monkeypatch, weights):
    monkeypatch.setenv(PATH_MAP, "/=/mnt")
    model = Component(name="deeplab", config=deeplab.Config(weights=weights))
    segmentation = SegmentationConfig(model=model, labels="/labels")
    assert list(locations(segmentation)) == ["/labels"]
    assert localised(segmentation).model == model


def test_a_dataset_is_read_where_this_machine_has_it(monkeypatch, tmp_path):
    write_voc(tmp_path / "here" / "VOC2012")
    component = Component(name="voc2012", config=voc2012.Config(root="/data/VOC2012"))
    monkeypatch.setenv(PATH_MAP, f"/data={tmp_path / 'here'}")
    dataset = build_dataset(component)
    assert len(dataset.ids("train")) == 12
    assert dataset.image(dataset.ids("train")[0]).size == (64, 48)
