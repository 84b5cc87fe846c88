"""What every backbone must do, whatever its token layout; used on those there are, and on those that are added."""

from __future__ import annotations

import json

import torch
from torch import nn

from aream.backbones.protocol import Backbone
from aream.cams.affinity import affinity_logits, patch_affinity
from aream.config import canonical

CLASSES = 4
LABELS = torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0]])


def check_backbone(module, config) -> None:
    """Shapes, gradients, repeatability and losses of a module of ``aream.backbones`` with a small configuration."""
    json.dumps(canonical(config))
    assert isinstance(module.fingerprint(config), str)
    assert module.fingerprint(config) == module.fingerprint(config)
    depth, patch = module.shape(config)
    host = _built(module, config, patch, seed=0)
    assert isinstance(host, Backbone)
    assert isinstance(host, nn.Module)
    assert (host.depth, host.patch_size) == (depth, patch)
    assert len(host.mean) == len(host.std) == 3
    images = torch.randn(2, 3, 4 * patch, 6 * patch)
    output = host(images)
    _check_output(host, output)
    torch.testing.assert_close(host(images).scores, output.scores)
    for part, whole in zip(output.split(1), (0, 1), strict=True):
        torch.testing.assert_close(part.scores[0], output.scores[whole])
        for name in ("queries", "keys", "values", "attended"):
            found, expected = (getattr(each.layers[-1], name) for each in (part, output))
            torch.testing.assert_close(found, expected[whole : whole + 1])
        for found, expected in zip((*part.cams, *part.tokens), (*output.cams, *output.tokens), strict=True):
            torch.testing.assert_close(found, expected[whole : whole + 1])
    assert host.no_weight_decay() <= {name for name, _ in host.named_parameters()}
    _check_host_losses(host, images, output)
    declared = module.losses(config) if hasattr(module, "losses") else ()
    assert set(output.host_losses(LABELS)) == set(declared)
    _check_gradients(host, output)
    _check_layers(host, images)
    _check_pieces(host, images)
    twin = _built(module, config, patch, seed=1)
    twin.load_state_dict(host.state_dict())
    torch.testing.assert_close(twin(images).scores, output.scores)
    assert host.train()(images).scores.isfinite().all()


def _built(module, config, patch, seed):
    torch.manual_seed(seed)
    return module.build(config, CLASSES, 4 * patch).eval()


def _check_output(host, output) -> None:
    assert output.grid == (4, 6)
    assert output.logits
    assert len(output.cams) == len(output.logits)
    assert all(cam.shape == (2, CLASSES, 4, 6) for cam in output.cams)
    assert output.cam is output.cams[0]
    assert len(output.tokens) in (0, host.depth)
    for tokens in output.tokens:
        assert tokens.shape == (2, host.prefix_tokens + 24, host.dim)
        assert tokens.requires_grad
    assert all(logits.shape == (2, CLASSES) for logits in output.logits)
    assert len(output.layers) == host.depth
    for layer in output.layers:
        assert layer.queries.shape[2] == layer.keys.shape[2] == host.prefix_tokens + 24
        assert patch_affinity(layer, host.prefix_tokens).isfinite().all()
        logits = layer.queries @ layer.keys.transpose(2, 3) * layer.queries.shape[3] ** -0.5
        attention = (logits if layer.bias is None else logits + layer.bias).softmax(dim=-1)
        torch.testing.assert_close(layer.attended, attention @ layer.values, rtol=0, atol=1e-5)
    localised = host.localise(output)
    assert localised.shape == output.cam.shape
    assert localised.isfinite().all()
    assert not localised.requires_grad


def _check_host_losses(host, images, output) -> None:
    """Scalars that are means over the images: what trains a batch in pieces relies on it."""
    whole = output.host_losses(LABELS)
    alone = [host(images[i : i + 1]).host_losses(LABELS[i : i + 1]) for i in range(2)]
    for name, term in whole.items():
        assert term.shape == ()
        assert term.isfinite()
        torch.testing.assert_close(term, sum(losses[name] for losses in alone) / 2)


def _check_gradients(host, output) -> None:
    own = {id(parameter) for parameter in host.parameters()}
    assert all(id(parameter) in own for parameter in host.head_parameters())
    first = output.layers[0]
    affinity = affinity_logits(first, host.prefix_tokens).sum()
    (affinity + output.scores.sum() + sum(output.host_losses(LABELS).values())).backward()
    assert first.queries.requires_grad
    assert all(parameter.grad is not None for parameter in host.head_parameters())


def _check_layers(host, images) -> None:
    """A layer's queries and tokens depend on its own parameters and those of shallower layers, on no others."""
    heads = {id(parameter) for parameter in host.head_parameters()}
    named = [host.layer_parameters(layer) for layer in range(host.depth)]
    assert all(parameters for parameters in named)
    everything = [id(parameter) for parameters in named for parameter in parameters]
    assert len(set(everything)) == len(everything)
    assert not heads & set(everything)
    output = host(images)
    for layer, projected in enumerate(output.layers):
        made = [affinity_logits(projected, host.prefix_tokens), *output.tokens[layer : layer + 1]]
        for parameter in host.parameters():
            parameter.grad = None
        for each in made:
            each.square().sum().backward(retain_graph=True)
            reached = [any(part.grad is not None and part.grad.any() for part in parts) for parts in named]
            assert reached == [index <= layer for index in range(host.depth)]


def _check_pieces(host, images) -> None:
    """Gradients of one image after the other add up to those of both."""

    def gradients(parts):
        for parameter in host.parameters():
            parameter.grad = None
        for part in parts:
            host(part).scores.sum().backward()
        return {name: p.grad for name, p in host.named_parameters() if p.grad is not None}

    whole, pieces = gradients([images]), gradients(images.split(1))
    assert set(whole) == set(pieces)
    for name, expected in whole.items():
        torch.testing.assert_close(pieces[name], expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item(), msg=name)
