from __future__ import annotations

import dataclasses
import math

import numpy as np
import oracles
import pytest
import torch
from PIL import Image
from timm.layers.attention import Attention
from torch.nn import functional as F

from aream.backbones import conformer, mctformer_v2, vit
from aream.datasets import shapes
from aream.images import to_tensor
from aream.infer import UNREFINED, CamInference, infer_cams
from workers.files.cams import read_cams, write_cams

CPU = torch.device("cpu")


@pytest.fixture
def dataset():
    return shapes.build(shapes.Config(image_size=36, train_images=3, val_images=1))


TINY = conformer.Config(patch_size=8, dim=12, depth=3, heads=2, base_channels=4, channel_ratio=1)


@pytest.fixture(params=["mctformer_v2", "conformer", "vit"])
def host(request):
    torch.manual_seed(0)
    if request.param == "conformer":
        host = conformer.build(TINY, 6, 32).eval()
    else:
        module = {"mctformer_v2": mctformer_v2, "vit": vit}[request.param]
        changes = {"class_token_mass": "copied"} if request.param == "mctformer_v2" else {}
        config = module.Config(
            vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=3, heads=2, drop_path=0.0, **changes
        )
        host = module.build(config, 6, 32).eval()
    for module in host.modules():  # attention far from uniform: refined maps keep a range that float32 resolves
        if isinstance(module, Attention):
            module.qkv.weight.data *= 40
    return host


def refined(host, pixels, layers):
    """One pass; the affinity of the whole subset is averaged before it refines."""
    with torch.no_grad():
        output = host(pixels)
    cam = host.localise(output)
    if not layers:
        return cam
    t = host.prefix_tokens
    maps = [oracles.mean_softmax(output.layers[i].queries, output.layers[i].keys, t)[:, t:] for i in layers]
    return torch.einsum("bnm,bcm->bcn", torch.stack(maps).mean(0), cam.flatten(2)).reshape(cam.shape)


def enlarged(maps, size):
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def as_on_mctformer(host, pixels, padding, layers, size):
    """The order of AReAM's script: mirror, pad; enlarge, cut, mirror back, to the image."""
    h, w = pixels.shape[2:]
    views = []
    for mirrored in (False, True):
        padded = F.pad(pixels.flip(-1) if mirrored else pixels, padding)
        full = enlarged(refined(host, padded, layers), padded.shape[2:])[:, :, :h, :w]
        views.append(enlarged(full.flip(-1) if mirrored else full, size))
    return sum(views)


def as_on_conformer(host, pixels, padding, layers, size):
    """The order of AReAM's script: pad, mirror; enlarge, mirror back, cut, to the image."""
    h, w = pixels.shape[2:]
    padded = F.pad(pixels, padding)
    plain, mirrored = (refined(host, view, layers) for view in (padded, padded.flip(-1)))
    first = enlarged(plain, padded.shape[2:])[:, :, :h, :w]
    second = enlarged(mirrored, padded.shape[2:]).flip(-1)[:, :, :h, :w]
    return enlarged(first, size) + enlarged(second, size)


def expected(host, dataset, image_id, layers, scales, order):
    image = dataset.image(image_id)
    present = [int(c) for c in np.flatnonzero(dataset.labels(image_id))]
    total = torch.zeros(len(present), image.height, image.width)
    for scale in scales:
        width, height = int(image.width * scale), int(image.height * scale)
        pixels = to_tensor(image.resize((width, height), Image.Resampling.BICUBIC), host.mean, host.std)[None]
        padding = (0, math.ceil(width / 8) * 8 - width, 0, math.ceil(height / 8) * 8 - height)
        total += order(host, pixels, padding, layers, (image.height, image.width))[0, present]
    total = total.clamp(min=0)
    total -= total.amin(dim=(1, 2), keepdim=True)
    return (total / (total.amax(dim=(1, 2), keepdim=True) + 1e-6)).numpy()


ORDERS = {"after_flip": as_on_mctformer, "before_flip": as_on_conformer}


class Cut:
    """A dataset whose images lack some columns and rows: none of them, a part of a patch, all but one."""

    def __init__(self, dataset, right: int, bottom: int):
        self.dataset, self.right, self.bottom = dataset, right, bottom

    def __getattr__(self, name):
        return getattr(self.dataset, name)

    def image(self, image_id):
        image = self.dataset.image(image_id)
        return image.crop((0, 0, image.width - self.right, image.height - self.bottom))


@pytest.mark.slow
@pytest.mark.parametrize("cut", [(0, 0), (4, 4), (5, 3), (0, 2)], ids=str)
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.5)], ids=str)
@pytest.mark.parametrize("padding", [None, "after_flip", "before_flip"])
def test_every_layer_subset_from_one_pass_at_native_size(host, dataset, scales, cut, padding):
    data = Cut(dataset, *cut)
    published = "before_flip" if isinstance(host, conformer.Conformer) else "after_flip"
    order = ORDERS[padding or published]
    for cams in infer_cams(host, data, "val", CamInference(scales=scales, padding=padding), device=CPU):
        for layers in (UNREFINED, (0,), (0, 1, 2)):
            found = cams.combine(layers)
            assert found.shape == (len(cams.classes), 36 - cut[1], 36 - cut[0])
            wanted = expected(host, data, cams.image_id, layers, scales, order)
            np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-5)


def test_the_order_of_padding_and_mirroring_tells_where_columns_are_padded_only(host):
    several = shapes.build(shapes.Config(image_size=36, train_images=1, val_images=8))  # of one, a CAM may be empty

    def both(cut):
        data = Cut(several, *cut)
        return [
            np.concatenate(
                [
                    cams.combine(range(3)).ravel()
                    for cams in infer_cams(host, data, "val", CamInference(padding=padding), device=CPU)
                ]
            )
            for padding in ORDERS
        ]

    np.testing.assert_array_equal(*both((4, 1)))
    first, second = both((0, 1))
    assert np.abs(first - second).max() > 0.01


def test_an_order_without_effect_is_no_other_inference():
    for published in ORDERS:
        for changes in ({"image_size": 32}, {"flip": False}):
            assert len({CamInference(padding=p, **changes).resolved(published) for p in (None, *ORDERS)}) == 1
        assert CamInference().resolved(published) == CamInference(padding=published).resolved("after_flip")


@pytest.mark.parametrize("padding", ORDERS)
def test_maps_on_disk_are_those_in_memory_in_fp16(host, dataset, tmp_path, padding):
    config = CamInference(scales=(0.5, 1.0), padding=padding)
    made = list(infer_cams(host, dataset, "train", config, device=CPU))
    write_cams(tmp_path, made)
    for first, second in zip(made, read_cams(tmp_path), strict=True):
        np.testing.assert_allclose(first.combine((0, 2)), second.combine((0, 2)), rtol=0, atol=1e-3)


def test_each_image_is_seen_once_a_scale_and_flip(host, dataset, monkeypatch):
    seen = []
    forward = host.forward
    monkeypatch.setattr(host, "forward", lambda images: seen.append(len(images)) or forward(images))
    config = CamInference(image_size=32, scales=(1.0, 1.5), flip=True)
    for cams in infer_cams(host, dataset, "train", config, device=CPU):
        for layers in ((0,), (1,), (0, 1, 2)):
            cams.combine(layers)
    assert sum(seen) == 3 * 2 * 2


def test_an_image_without_classes_has_no_maps(host, dataset, monkeypatch):
    monkeypatch.setattr(dataset, "labels", lambda image_id: np.zeros(6, dtype=np.float32))
    for cams in infer_cams(host, dataset, "train", CamInference(image_size=32), device=CPU):
        assert cams.combine((0, 1)).shape == (0, 36, 36)


@pytest.mark.slow
def test_transcam_sees_squares_of_256_512_and_768_both_ways(dataset):
    seen = []

    class Recording(conformer.Conformer):
        def forward(self, images):
            seen.extend(tuple(image.shape) for image in images)
            return super().forward(images)

    host = Recording(dataclasses.replace(TINY, patch_size=16, head="transcam"), 6)
    cams = next(infer_cams(host, dataset, "val", CamInference(image_size=512, scales=(0.5, 1.0, 1.5)), device=CPU))
    assert seen == [(3, side, side) for side in (256, 256, 512, 512, 768, 768)]
    assert [tuple(scale.maps.shape[2:]) for scale in cams.scales] == [(16, 16), (32, 32), (48, 48)]
    found = cams.combine(range(3))
    assert found.shape[1:] == (36, 36)
    assert found.min() >= 0
