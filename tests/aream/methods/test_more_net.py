"""MoRe on the host of timm's transformers, against the numbers of the authors' own network."""

from __future__ import annotations

import pytest
import torch
from golden_numbers import close, golden
from torch import nn
from torch.nn import functional as F

from aream.backbones import vit
from aream.methods import more
from aream.methods._more_masks import combined_maps
from aream.methods._more_network import attention_map
from aream.methods.protocol import HostShape

CLASSES, REGISTERS, GRID, SIDE = 5, 4, 4, 64
NUMBERS = golden("more_net")


def positions(grid: int) -> torch.Tensor:
    """Of a square grid, by MoRe's rule: bicubic, with a tenth of a position more on each side."""
    prefix, patches = NUMBERS["enc_pos_embed"].split([REGISTERS + CLASSES, GRID**2], dim=1)
    prefix = torch.cat([prefix[:, REGISTERS:], prefix[:, :REGISTERS]], dim=1)
    if grid != GRID:
        square = patches.reshape(1, GRID, GRID, -1).permute(0, 3, 1, 2)
        scale = (grid + 0.1) / GRID
        square = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic", align_corners=False)
        patches = square.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([prefix, patches], dim=1)


def host(scale: float = 1.0) -> vit.TimmTransformer:
    """The authors' encoder for images of one size.

    Their positions are resampled in every pass from one grid. This host's are its own for the grid that it is made for,
    and other grids have timm's resampling of these: so every scale has a host here.
    """
    config = vit.Config(
        vit="vit_base_patch16_224", dim=32, depth=4, heads=2, drop_path=0.0, class_tokens="per_class",
        registers=REGISTERS, head_kernel=1, head_bias=False, rectified=False, pooling="channel_max",
    )  # fmt: skip
    built = vit.build(config, CLASSES, round(SIDE * scale))
    for block in built.vit.blocks:
        block.mlp.fc1, block.mlp.fc2 = nn.Linear(32, 64), nn.Linear(64, 32)
    built = built.double().eval()
    state = {f"vit.{name[4:]}": value for name, value in NUMBERS.items() if name.startswith("enc_")}
    state["vit.reg_token"], state["vit.cls_token"] = state["vit.cls_token"].split([REGISTERS, CLASSES], dim=1)
    state["vit.pos_embed"] = positions(round(SIDE * scale) // 16)
    built.load_state_dict(state | {"head.weight": NUMBERS["head"]})
    return built


@pytest.fixture
def method():
    shape = HostShape(
        dim=32, classes=CLASSES, depth=4, prefix_tokens=9, class_rows=slice(0, CLASSES), patch_size=16, image_size=112
    )
    built = more.build(more.resolve(more.Config(), 4), host=shape)
    built.network.double()
    state = {f"graph.{name[4:]}": value for name, value in NUMBERS.items() if name.startswith("gcr_")}
    built.network.load_state_dict(state | {"auxiliary_head.weight": NUMBERS["aux"].flatten(1)})
    return built


def seen(method, scale: float):
    """Auxiliary CAM, CAM and LAM of the images and of their mirrors at a scale."""
    backbone, images = host(scale), NUMBERS["images"]
    if scale != 1:
        images = F.interpolate(images, size=[round(SIDE * scale)] * 2, mode="bilinear", align_corners=False)
    found = []
    for view in (images, images.flip(-1)):
        with torch.no_grad():
            output = backbone(view)
            auxiliary = method.network.auxiliary_map(method._middle(backbone, output), output.grid)
            lam = attention_map(*method._tokens(backbone, output), output.grid)
        found.append((auxiliary, output.cam, lam))
    return [list(pair) for pair in zip(*found, strict=True)]


@torch.no_grad()
def test_tokens_and_logits_are_the_authors(method):
    backbone = host()
    output = backbone(NUMBERS["images"])
    close(output.tokens[-1][:, :CLASSES], NUMBERS["class_tokens_before_gcr"])
    close(output.tokens[-1][:, 9:], NUMBERS["patches"].flatten(2).transpose(1, 2))
    close(output.logits[0], NUMBERS["logits"])
    close(method._tokens(backbone, output)[0], NUMBERS["class_tokens"])
    close(method.network.auxiliary_logits(method._middle(backbone, output)), NUMBERS["logits_aux"])


def test_cams_and_lams_of_all_scales_are_the_authors(method):
    scales = {scale: seen(method, scale) for scale in (1, 0.5, 0.75, 1.25, 1.5, 1.75, 2)}
    size = (SIDE, SIDE)
    for kind, name in enumerate(("cams_aux", "cams")):
        close(combined_maps([scales[scale][kind] for scale in (1, 0.5, 0.75, 1.5)], size), NUMBERS[name])
    # LAMs are not rectified: a constant more leaves nothing to rectify, and their minimum is subtracted in the end.
    lams = [[maps + 1000 for maps in views[2]] for views in scales.values()]
    close(combined_maps(lams[:1], size), NUMBERS["lam"])
    close(combined_maps(lams, size), NUMBERS["lam_multi"])


def test_it_localises_by_the_lam_of_the_classes_asked_for(method):
    backbone, classes = host(), torch.tensor([[2, 0], [4, 4]])
    output, maps = method.localise(backbone, NUMBERS["images"], classes)
    expected = attention_map(*method._tokens(backbone, output), output.grid)
    for image, (kept, found) in enumerate(zip(classes, maps, strict=True)):
        for index, each in zip(kept, found, strict=True):
            close(each, (expected[image, index] - expected[image, index].min()).detach())
    assert not maps.requires_grad
