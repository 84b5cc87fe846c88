"""Weight files that hold several state dicts, and names of models that carry the tag of their weights."""

from __future__ import annotations

import logging
import re

import pytest
import timm
import torch
from timm.models import vision_transformer

from aream.affinity_net.network import AffinityNetConfig
from aream.affinity_net.network import build as build_affinity_net
from aream.backbones import conformer, mctformer_v2, vit
from aream.errors import ConfigError, DataError
from aream.networks.checkpoint import read_state_dict, together
from aream.segmenters import deeplab, deeplab_largefov, deeplab_v3

SMALL = {"vit": "vit_tiny_patch16_224", "patch_size": 16, "dim": 12, "depth": 2, "heads": 2}


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"module.layer.weight": torch.full((2, 2), value)}


@pytest.fixture
def saved(tmp_path):
    def save(content: object) -> str:
        torch.save(content, tmp_path / "weights.pth")
        return str(tmp_path / "weights.pth")

    return save


def value(state: dict[str, torch.Tensor]) -> float:
    return float(state["layer.weight"][0, 0])


@pytest.mark.parametrize(
    "content",
    [
        weights(1),
        {"model": weights(1), "epoch": 3},
        {"state_dict": weights(1), "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": []}},
        {"model": {"state_dict": weights(1)}},
        {"net": weights(1), "args": {"lr": 0.1}},
    ],
)
def test_the_only_state_dict_is_taken_whatever_it_is_called(saved, content, caplog):
    assert value(read_state_dict(saved(content))) == 1
    assert not caplog.records


@pytest.mark.parametrize("prefix", ["model.", "net.", "module.model.", "_orig_mod.module.", "model.module.net."])
def test_what_wraps_all_names_is_taken_off(saved, prefix):
    """Data parallel programs, compiled models and Lightning put it there."""
    plain = build_vit().state_dict()
    wrapped = saved({"state_dict": {prefix + name: tensor for name, tensor in plain.items()}})
    found = build_vit(weights=wrapped).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in plain.items())


def build_vit(**more):
    return mctformer_v2.build(mctformer_v2.Config(**SMALL, **more), 3, 224)


def test_what_some_names_have_is_their_own(saved):
    state = {"model.layer.weight": torch.zeros(1), "other.weight": torch.zeros(1)}
    assert read_state_dict(saved(state)).keys() == state.keys()


def test_positions_of_another_grid_are_interpolated_and_that_is_said(saved, caplog):
    """384 pixels onto 224."""
    small = {"vit": "vit_tiny_patch16_224", "dim": 12, "depth": 2, "heads": 2}
    for module in (vit, mctformer_v2):
        state = {k: v for k, v in module.build(module.Config(**small), 3, 384).state_dict().items()}
        with caplog.at_level(logging.WARNING):
            host = module.build(module.Config(**small, weights=saved(state)), 3, 224)
        assert "interpolated" in caplog.text
        assert host(torch.zeros(1, 3, 224, 224)).cam.shape[-1] == 14
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            module.build(module.Config(**small, weights=saved(state)), 3, 384)
        assert "interpolated" not in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ["vit_tiny_patch16_224", "vit_wee_patch16_reg1_gap_256"])
def test_a_vit_of_any_file_is_an_encoder_of_any_crop(saved, encoder, caplog):
    """The positions are those that timm makes of what it fetches."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in timm.create_model(encoder, num_classes=5).state_dict().items()}
    state = {name: torch.randn(shape) / 8 for name, shape in shapes.items()}
    path = saved(state)
    for crop in (64, 40, 448):
        with caplog.at_level(logging.WARNING):
            built = deeplab.build(deeplab.Config(encoder=encoder, weights=path), 3, crop).encoder.model
        assert "interpolated" in caplog.text
        expected = vision_transformer.checkpoint_filter_fn(dict(state), built)["pos_embed"]
        torch.testing.assert_close(built.pos_embed.detach(), expected)
        caplog.clear()
    built = deeplab.build(deeplab.Config(encoder=encoder, weights=path), 3, int(encoder[-3:])).encoder.model
    assert torch.equal(built.pos_embed, state["pos_embed"])
    assert not caplog.text
    state["pos_embed"] = state["pos_embed"][:, :-1]
    with pytest.raises(DataError, match=r"other shape: model\.pos_embed"):
        deeplab.build(deeplab.Config(encoder=encoder, weights=saved(state)), 3, 64)


def test_every_unknown_key_is_named(saved):
    state = build_vit().state_dict()
    more = {f"blocks.{k}.ls1.gamma": torch.ones(12) for k in range(12)} | {f"odd_{k}": torch.ones(1) for k in range(9)}
    names = ", ".join(["blocks.{0..11}.ls1.gamma", *(f"odd_{k}" for k in range(9))])
    with pytest.raises(DataError, match=re.escape(f"unexpected: {names} (21)")):
        build_vit(weights=saved(state | more))


def test_names_that_differ_in_a_number_stand_together():
    assert together(["a.0.b", "a.1.b", "a.2.b", "a.4.c", "a.7.c", "x", "a.3.d"]) == [
        "a.{0..2}.b", "a.{4,7}.c", "x", "a.3.d",
    ]  # fmt: skip


def test_of_several_the_usual_one_is_taken_and_said_and_any_other_by_its_key(saved, caplog):
    path = saved({"model_ema": weights(2), "model": weights(1), "epoch": 3})
    with caplog.at_level(logging.WARNING):
        assert value(read_state_dict(path)) == 1
    assert "of the state dicts model_ema, model, model is taken" in caplog.text
    caplog.clear()
    assert value(read_state_dict(path, "model_ema")) == 2
    assert not caplog.records


def test_of_several_without_a_usual_name_one_must_be_named(saved):
    path = saved({"student": weights(1), "teacher": weights(2), "epoch": 3})
    with pytest.raises(DataError, match=r"weights\.pth: holds several state dicts, student, teacher; say which in"):
        read_state_dict(path)
    assert value(read_state_dict(path, "teacher")) == 2
    with pytest.raises(DataError, match=r"no state dict 'ema' \(weights_key\); it holds student, teacher"):
        read_state_dict(path, "ema")


def test_a_key_that_lies_deeper(saved):
    path = saved({"ema": {"state_dict": weights(3)}, "model": weights(1)})
    assert value(read_state_dict(path, "ema.state_dict")) == 3


BUILDS = {
    "mctformer": (
        lambda **given: mctformer_v2.Config(**SMALL, **given),
        lambda config: mctformer_v2.build(config, 3, 224),
    ),
    "conformer": (
        lambda **given: conformer.Config(depth=3, dim=12, heads=2, base_channels=4, channel_ratio=1, **given),
        lambda config: conformer.build(config, 3, 32),
    ),
    "deeplab_largefov": (
        lambda **given: deeplab_largefov.Config(width=1, depths=(1, 1, 1, 1), channels=4, **given),
        lambda config: deeplab_largefov.build(config, 3, 32).trunk,
    ),
    "affinity_net": (
        lambda **given: AffinityNetConfig(width=1, depths=(1, 1, 1, 1), **given),
        build_affinity_net,
    ),
    "deeplab": (
        lambda **given: deeplab.Config(encoder="resnet10t", level=1, output_stride=None, **given),
        lambda config: deeplab.build(config, 3, 32).encoder,
    ),
    "deeplab_v3": (
        lambda **given: deeplab_v3.Config(encoder="mobilenet_v3_large", **given),
        lambda config: deeplab_v3.build(config, 3, 32).backbone,
    ),
}


@pytest.mark.parametrize("name", BUILDS)
def test_every_network_takes_the_key(saved, name):
    configured, build = BUILDS[name]
    state = build(configured()).state_dict()
    other = {key: torch.full_like(tensor, 0.25) for key, tensor in state.items()}
    path = saved({"student": state, "teacher": other})
    with pytest.raises(DataError, match="say which in weights_key"):
        build(configured(weights=path))
    found = build(configured(weights=path, weights_key="teacher")).state_dict()
    assert all(torch.equal(found[key], tensor) for key, tensor in other.items())


@pytest.mark.parametrize("name", sorted(set(BUILDS) - {"mctformer"}))
def test_batch_norms_of_old_files_have_no_counts(saved, name):
    """torchvision's ``resnet50-0676ba61.pth`` is one: torch loads it, whose batch norms read no count."""
    configured, build = BUILDS[name]
    state = {key: torch.full_like(tensor, 0.25) for key, tensor in build(configured()).state_dict().items()}
    old = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    found = build(configured(weights=saved(old))).state_dict()
    assert len(old) < len(state) == len(found)
    assert all(torch.equal(found[key], tensor) for key, tensor in old.items())
    with pytest.raises(DataError, match=r"missing: .*running_var"):
        build(configured(weights=saved({key: one for key, one in old.items() if not key.endswith("running_var")})))


FINGERPRINTS = {"mctformer": mctformer_v2, "vit": vit, **{module.__name__.rpartition(".")[2]: module for module in (
    conformer, deeplab, deeplab_largefov, deeplab_v3)}}  # fmt: skip


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_a_file_that_is_written_anew_has_another_identity(saved, name):
    """In a notebook one process starts sweep after sweep."""
    module = FINGERPRINTS[name]

    def identity(count: int) -> str:
        return module.fingerprint(module.Config(weights=saved({"layer.weight": torch.zeros(count)})))

    first = identity(1)
    assert identity(2000) != first
    assert identity(1) == first


@pytest.mark.parametrize("name", sorted(set(BUILDS) - {"affinity_net"}))
def test_a_key_without_a_file_is_refused(name):
    with pytest.raises(ConfigError, match="weights_key: 'teacher' is looked up in a file"):
        BUILDS[name][0](weights_key="teacher")


EMBEDDED_HOST = {"vit": "vit_tiny_patch16_224", "patch_size": 8, "dim": 64, "depth": 8, "heads": 4}


def test_the_weights_that_come_with_the_package():
    config = vit.Config(weights="embedded", **EMBEDDED_HOST)
    state = read_state_dict("embedded")
    own = vit.build(config, 6, 96).vit.state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], value.float()) for name, value in state.items())
    assert vit.fingerprint(config) not in {"random", vit.fingerprint(vit.Config())}
    host = mctformer_v2.build(mctformer_v2.Config(weights="embedded", **EMBEDDED_HOST), 6, 96)
    name = "blocks.0.attn.qkv.weight"
    assert torch.equal(host.state_dict()[name], state[name].float())


@pytest.mark.parametrize("change", [{"dim": 48}, {"depth": 9}, {"vit": "deit3_small_patch16_224"}])
def test_they_fit_no_other_host(change):
    with pytest.raises(DataError, match="embedded: "):
        vit.build(vit.Config(weights="embedded", **EMBEDDED_HOST | change), 6, 96)
    with pytest.raises(DataError, match="embedded: "):
        deeplab.build(deeplab.Config(encoder="resnet18", weights="embedded"), 3, 32)


def test_timms_tags():
    """The tag decides about the statistics of the input, too: AugReg's are 0.5, DeiT's those of ImageNet."""
    host = mctformer_v2.build(mctformer_v2.Config(**{**SMALL, "vit": "vit_tiny_patch16_224.augreg_in21k"}), 3, 32)
    assert host.mean == (0.5, 0.5, 0.5)
    host = mctformer_v2.build(mctformer_v2.Config(**{**SMALL, "vit": "deit_tiny_patch16_224.fb_in1k"}), 3, 32)
    assert host.mean == (0.485, 0.456, 0.406)
    with pytest.raises(ConfigError, match=r"no weights 'nope' of vit_tiny_patch16_224; its tags are augreg_in21k, "):
        mctformer_v2.build(mctformer_v2.Config(**{**SMALL, "vit": "vit_tiny_patch16_224.nope"}), 3, 32)


def test_timms_tags_of_encoders():
    assert deeplab.build(deeplab.Config(encoder="resnet18.a1_in1k"), 3, 32)
    with pytest.raises(ConfigError, match=r"encoder: timm has no weights 'nope' of resnet18; its tags are a1_in1k"):
        deeplab.Config(encoder="resnet18.nope")
