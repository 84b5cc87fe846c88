"""What is refused after the file was read, because parts of it do not fit each other, is told by its full key too."""

from __future__ import annotations

import pytest

from aream.errors import AreamError
from orchestrator.preflight.prepare import prepare
from orchestrator.spec.reader import load_spec

SWEEP = """
name: keys
runs: {folder}/runs
data: {{name: shapes, image_size: 32, train_images: 4, val_images: 2}}
backbone: {{vit: vit_tiny_patch16_224, patch_size: 8, dim: 12, depth: 4, heads: 2}}
train: {{epochs: 2, warmup_epochs: 1, lr_warmup_epochs: 0, image_size: 32}}
segmentation: {{model: {{encoder: resnet10t, output_stride: null, level: 1, rates: [1], channels: 16}}}}
"""


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("inference.layers=[99]", "inference.layers"),
        ("axes={inference.layers: {grid: [none, [0, 9]]}}", "inference.layers"),
        ("backbone.vit=vit_tny_patch16_224", "backbone.vit"),
        ("backbone.vit=resnet50", "backbone.vit"),
        ("axes={backbone.vit: {grid: [vit_tiny_patch16_224, vit_tny]}}", "backbone.vit"),
        ("backbone.class_attention_layers=9", "backbone.class_attention_layers"),
        ("method.layer_index=9", "method.layer_index"),
        ("method.fusion_layers=[9]", "method.fusion_layers"),
        ("method.supervised_layers=[9]", "method.supervised_layers"),
        ("method={name: mean_affinity, layer_index: 9}", "method.layer_index"),
        ("train.image_size=33", "train.image_size"),
        ("segmentation.model.level=9", "segmentation.model.encoder, output_stride, level"),
    ],
)
def test_the_key_is_the_one_to_change(given, key, tmp_path):
    path = tmp_path / "keys.yaml"
    path.write_text(SWEEP.format(folder=tmp_path))
    with pytest.raises(AreamError) as refusal:
        prepare(load_spec(path, [given])).planner.grid()
    (line,) = str(refusal.value).splitlines()
    assert f"{key}: " in line
    assert line.partition(f"{key}: ")[0] in ("", f"--set {given.partition('=')[0]}={given.partition('=')[2]}: ")
