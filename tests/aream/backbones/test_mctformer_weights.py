"""What the MCTformer hosts read: a ViT's weights, published files, files of one another."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file
from small_mctformers import CLASSES, HOSTS, SIZE, built

from aream.backbones import mctformer_plus
from aream.errors import DataError


def vit_weights(path, prefix=1, side=28):
    """A ViT's file as DeiT's are: one class token, position(s) before those of the patches, a linear classifier."""
    state = built("v2", image_size=224, classes=1).state_dict()
    state["pos_embed"] = torch.randn(1, prefix + side * side, 12)
    state |= {"head.weight": torch.zeros(1000, 12), "head.bias": torch.zeros(1000)}
    if prefix == 2:
        state |= {"dist_token": torch.zeros(1, 1, 12), "head_dist.weight": torch.zeros(1000, 12),
                  "head_dist.bias": torch.zeros(1000)}  # fmt: skip
    torch.save({"model": state}, path)
    return state


@pytest.mark.parametrize("prefix", [1, 2])
@pytest.mark.parametrize("name", HOSTS)
def test_a_vits_weights_repeat_the_class_token(tmp_path, name, prefix):
    state = vit_weights(tmp_path / "vit.pth", prefix)
    config = HOSTS[name].Config(**SIZE, weights=str(tmp_path / "vit.pth"))
    host = HOSTS[name].build(config, CLASSES, 224)
    positions = host.positions(28, 28)
    for c in range(CLASSES):
        assert torch.equal(host.cls_token[:, c], state["cls_token"][:, 0])
        assert torch.equal(positions[:, c], state["pos_embed"][:, 0])
    assert torch.equal(positions[:, CLASSES:], state["pos_embed"][:, prefix:])
    assert torch.equal(host.blocks[3].mlp.fc2.weight, state["blocks.3.mlp.fc2.weight"])


def test_positions_of_a_vit_are_repeated_by_nearest_for_larger_images(tmp_path):
    state = vit_weights(tmp_path / "vit.pth")
    config = mctformer_plus.Config(**SIZE, weights=str(tmp_path / "vit.pth"))
    host = mctformer_plus.build(config, CLASSES, 448)
    given = state["pos_embed"][0, 1:].reshape(28, 28, 12)
    found = host.pos_embed_pat.reshape(56, 56, 12)
    for row, column in ((0, 0), (1, 1), (55, 54), (13, 40)):
        assert torch.equal(found[row, column], given[row // 2, column // 2])


@pytest.mark.parametrize("name", HOSTS)
def test_the_grid_of_positions_is_the_files(tmp_path, name):
    state = vit_weights(tmp_path / "vit.pth", side=30)
    config = HOSTS[name].Config(**SIZE, weights=str(tmp_path / "vit.pth"))
    host = HOSTS[name].build(config, CLASSES, 240)
    assert host.vit_grid == (30, 30)
    assert torch.equal(host.patch_positions, state["pos_embed"][:, 1:])
    torch.save(host.state_dict(), tmp_path / "host.pth")
    again = HOSTS[name].build(dataclasses.replace(config, weights=str(tmp_path / "host.pth")), CLASSES, 240)
    assert torch.equal(again.positions(7, 5), host.positions(7, 5))


@pytest.mark.parametrize("name", HOSTS)
def test_positions_of_no_square_grid_are_refused_not_cut(tmp_path, name):
    state = vit_weights(tmp_path / "vit.pth")
    torch.save({**state, "pos_embed": state["pos_embed"][:, :-1]}, tmp_path / "vit.pth")
    config = HOSTS[name].Config(**SIZE, weights=str(tmp_path / "vit.pth"))
    with pytest.raises(DataError, match="pos_embed"):
        HOSTS[name].build(config, CLASSES, 224)


def published(name):
    """As the authors' classes save themselves: V1 with a linear head that it never uses, + with its ViT's positions."""
    state = built(name, image_size=224).state_dict()
    if name == "v1":
        state |= {"head.weight": torch.zeros(CLASSES, 12), "head.bias": torch.zeros(CLASSES)}
    if name == "plus":
        state["pos_embed"] = torch.zeros(1, 197, 12)
    return state


@pytest.mark.parametrize("name", HOSTS)
def test_published_files_load_whole(tmp_path, name):
    state = published(name)
    torch.save({"model": state, "epoch": 3, "optimizer": {"state": {}, "param_groups": []}}, tmp_path / "host.pth")
    config = HOSTS[name].Config(**SIZE, weights=str(tmp_path / "host.pth"))
    host = HOSTS[name].build(config, CLASSES, 224)
    for key, value in host.state_dict().items():
        assert torch.equal(value, state[key]), key
    save_file(host.state_dict(), tmp_path / "host.safetensors")  # what a training keeps loads as well
    again = dataclasses.replace(config, weights=str(tmp_path / "host.safetensors"))
    assert torch.equal(HOSTS[name].build(again, CLASSES, 224).cls_token, host.cls_token)


@pytest.mark.parametrize(
    ("own", "other", "message"),
    [
        ("v1", "v2", r"unexpected: head\.bias, head\.weight \(2\)"),
        ("v2", "v1", r"missing: head\.bias, head\.weight \(2\)"),
        ("v2", "plus", r"missing: pos_embed.*unexpected: pos_embed_cls"),
    ],
)
def test_another_hosts_file_is_refused(tmp_path, own, other, message):
    state = published(other)
    if other == "plus":
        del state["pos_embed"]
    torch.save({"model": state}, tmp_path / "host.pth")
    config = HOSTS[own].Config(**SIZE, weights=str(tmp_path / "host.pth"))
    with pytest.raises(DataError, match=message):
        HOSTS[own].build(config, CLASSES, 224)


def test_a_file_of_plus_fits_the_image_size_it_was_trained_at(tmp_path):
    torch.save({"model": published("plus")}, tmp_path / "host.pth")
    config = mctformer_plus.Config(**SIZE, weights=str(tmp_path / "host.pth"))
    with pytest.raises(DataError, match=r"pos_embed_pat: file \(1, 784, 12\), model \(1, 3136, 12\)"):
        mctformer_plus.build(config, CLASSES, 448)
