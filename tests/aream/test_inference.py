from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import torch
from timm.layers.attention import Attention
from torch.nn import functional as F

from aream.backbones import conformer, mctformer_v2
from aream.batches import to_tensor
from aream.data import shapes
from aream.inference import UNREFINED, CamInference, infer_cams

CPU = torch.device("cpu")


@pytest.fixture
def dataset():
    return shapes.build(shapes.Config(image_size=36, train_images=3, val_images=1))


TINY = conformer.Config(patch_size=8, dim=12, depth=3, heads=2, base_channels=4, channel_ratio=1)


@pytest.fixture(params=["mctformer_v2", "conformer"])
def host(request):
    torch.manual_seed(0)
    if request.param == "conformer":
        host = conformer.build(TINY, 6, 32).eval()
    else:
        config = mctformer_v2.Config(vit="vit_tiny_patch16_224", patch_size=8, dim=12, depth=3, heads=2, drop_path=0.0)
        host = mctformer_v2.build(config, 6, 32).eval()
    for module in host.modules():  # attention far from uniform: refined maps keep a range that float32 resolves
        if isinstance(module, Attention):
            module.qkv.weight.data *= 40
    return host


def expected(host, dataset, image_id, layers, scales):
    """One pass a scale, flip and layer subset, the affinity of the whole subset averaged before it refines."""
    image = dataset.image(image_id)
    present = [int(c) for c in np.flatnonzero(dataset.labels(image_id))]
    total = torch.zeros(len(present), image.height, image.width)
    for scale in scales:
        width, height = round(image.width * scale), round(image.height * scale)
        pixels = to_tensor(image.resize((width, height), 3) if scale != 1 else image, host.mean, host.std)
        padded = F.pad(pixels, (0, -width % 8, 0, -height % 8))[None]
        merged = 0
        for view, back in ((padded, False), (padded.flip(-1), True)):
            with torch.no_grad():
                output = host(view)
            cam = host.localise(output)
            if layers:
                t = host.class_tokens
                maps = [oracles.mean_softmax(output.layers[i].queries, output.layers[i].keys, t)[:, t:] for i in layers]
                affinity = torch.stack(maps).mean(0)
                h, w = cam.shape[2:]
                cam = torch.einsum("bnm,bcm->bcn", affinity, cam.flatten(2)).reshape(1, -1, h, w)
            merged = merged + (cam.flip(-1) if back else cam)
        full = F.interpolate(
            merged, size=(padded.shape[2] * image.height // height, padded.shape[3] * image.width // width),
            mode="bilinear", align_corners=False,
        )  # fmt: skip
        total += full[0, present, : image.height, : image.width]
    total = total.clamp(min=0)
    total -= total.amin(dim=(1, 2), keepdim=True)
    return (total / (total.amax(dim=(1, 2), keepdim=True) + 1e-6)).numpy()


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.5)])
def test_every_layer_subset_from_one_pass_at_native_size(host, dataset, scales):
    for cams in infer_cams(host, dataset, "train", CamInference(scales=scales), device=CPU):
        for layers in (UNREFINED, (0,), (0, 2), (0, 1, 2)):
            found = cams.combine(layers)
            assert found.shape == (len(cams.classes), 36, 36)
            np.testing.assert_allclose(found, expected(host, dataset, cams.image_id, layers, scales), rtol=0, atol=2e-5)


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
