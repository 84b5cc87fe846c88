"""MoRe's own decoder: its loss and labels against the authors' numbers, and its place in a training."""

from __future__ import annotations

import pytest
import torch
from golden_numbers import close, golden
from test_more import SIDE, batch_of, host, method_for, terms, told_apart

from aream.labels.training_labels import reliable_labels
from aream.methods import more
from aream.methods._more_decoder import count_pixels, segmentation_loss
from aream.methods.protocol import Progress
from aream.refiners import par
from aream.segmentation.decoder_of_method import DecoderOfMethod


def test_the_loss_is_the_authors():
    numbers = golden("more_seg")
    logits, labels = numbers["logits"].requires_grad_(), numbers["labels"].long()
    loss = segmentation_loss(logits, labels, count_pixels(labels))
    close(loss, numbers["loss"])
    loss.backward()
    close(logits.grad, numbers["grad"])
    for value, name in ((0, "loss_all_background"), (255, "loss_all_ignored")):
        alike = torch.full_like(labels, value)
        close(segmentation_loss(numbers["logits"], alike, count_pixels(alike)), numbers[name])


def test_pixel_labels_are_the_authors():
    numbers = golden("more_pseudo_label")
    found = reliable_labels(
        numbers["cam"].float(),
        numbers["labels"] > 0,
        numbers["images_0_255"].float() / 255,
        alpha_low=0.25,
        alpha_high=0.7,
        refiner=par.build(par.Config()),
    )
    assert torch.equal(found, numbers["refined"].long())


def test_it_begins_when_its_time_has_come_and_teaches_the_host_too():
    backbone, batch = told_apart(host()), batch_of(2)
    method = method_for(backbone, segment=True, segment_channels=8)
    method.network.double()
    before, _ = terms(method, backbone, [batch], Progress(10, 100))
    assert "segmentation" not in before
    assert not any(part.grad is not None and part.grad.any() for part in method.network.decoder.parameters())
    after, _ = terms(method, backbone, [batch], Progress(11, 100))
    assert after["segmentation"] > 0
    assert all(part.grad.any() for part in method.network.decoder.parameters())


def test_its_logits_have_the_size_of_any_images():
    backbone = host()
    method = method_for(backbone, segment=True, segment_channels=8)
    predictor = DecoderOfMethod(method, backbone).eval()
    images = torch.randn(2, 3, SIDE + 3, SIDE - 5)
    logits = predictor(images)
    assert logits.shape == (2, 7, SIDE + 3, SIDE - 5)
    assert not logits.requires_grad
    assert not backbone.training
    whole = torch.randn(1, 3, SIDE, SIDE)
    torch.testing.assert_close(predictor(whole), method.segment(backbone, whole))


def test_without_one_there_is_no_term_no_network_and_no_other_identity():
    plain = more.resolve(more.Config(), 4)
    assert plain == more.resolve(more.Config(segment_weight=1.0, segment_start=0.5, segment_channels=8), 4)
    assert "segmentation" not in more.losses(plain)
    assert not more.SEGMENTS(plain)
    assert method_for(host()).network.decoder is None
    assert "segmentation" in more.losses(more.Config(segment=True))


@pytest.mark.slow
def test_it_learns_what_the_cams_say():
    backbone, batch = told_apart(host()), batch_of(4)
    method = method_for(backbone, segment=True, segment_channels=8, label_mode="online")
    method.network.double()
    optimizer = torch.optim.Adam(method.network.decoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        losses.append(terms(method, backbone, [batch])[0]["segmentation"])
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
