"""Training an AffinityNet on the scores of its images' classes.

Source: Ahn and Kwak, PSA, CVPR 2018, section 3.2, and its authors' code.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import ColorJitter

from aream.affinity_net.network import AffinityNet, affinities
from aream.affinity_net.pairs import LEAST_SIDE
from aream.affinity_net.targets import affinity_loss, affinity_terms, pair_kinds, position_labels
from aream.config import config
from aream.data.dataset import Dataset
from aream.engine.batches import seeded
from aream.engine.loading import HERE, Loading
from aream.engine.poly_sgd import PolySgdConfig, PolySgdRun, Samples, learning_groups
from aream.engine.steps import autocast, refuse_loss
from aream.errors import ConfigError
from aream.images import MAX_SIDE, to_tensor
from aream.networks.resnet38 import STRIDE

ReadScores = Callable[[str], Float32[np.ndarray, "2 k1 h w"]]
"""Scores of an image's background and classes, for the low and the high alpha."""

TERMS = ("affinity_background", "affinity_class", "affinity_different")


@config
class AffinityTraining(PolySgdConfig):
    epochs: int = 5
    """Passes over the train images (MCTformer, AReAM: 5; PSA, TransCAM: 8)."""
    batch_size: int = 8
    """Images a step."""
    lr: float = 0.01
    """Peak learning rate of the trunk's convolutions (SGD, poly 0.9); twice that for biases and norms that learn."""
    weight_decay: float = 5e-4
    """Weight decay of convolutions; biases and norms have none."""
    momentum: float = 5e-4
    """Momentum of SGD. Deviates from what the authors meant, not from what they ran: their optimizer hands its weight
    decay on in the place of SGD's momentum, and calls the exponent of the schedule momentum. 0.9 is what was meant."""
    crop: int = 448
    """Side of the square crop, pixels, a multiple of 8; smaller images are padded with pixels without a label."""
    color_jitter: tuple[float, float, float, float] = (0.3, 0.3, 0.3, 0.1)
    """Strength of brightness, contrast, saturation and hue jitter."""

    def __post_init__(self) -> None:
        PolySgdConfig.__post_init__(self)
        if self.crop % STRIDE or not LEAST_SIDE * STRIDE <= self.crop <= MAX_SIDE:
            raise ConfigError(
                f"crop: need a multiple of {STRIDE} in {LEAST_SIDE * STRIDE}..{MAX_SIDE}, got {self.crop}; "
                "smaller crops hold no pair"
            )
        if min(self.color_jitter) < 0 or self.color_jitter[3] > 0.5:
            raise ConfigError(
                f"color_jitter: need strengths >= 0, that of hue at most 0.5, got {list(self.color_jitter)}"
            )


class AffinityRun(PolySgdRun):
    """One AffinityNet's training."""

    LOSS = "train/affinity_loss"
    NOTHING = (
        "in none of {} images are the scores sure of two near positions (labels.refiner.targets says when they are)"
    )

    def __init__(
        self,
        network: AffinityNet,
        dataset: Dataset,
        read_scores: ReadScores,
        config: AffinityTraining,
        seed: int,
        *,
        device: torch.device,
        loading: Loading = HERE,
    ) -> None:
        self.affinity_net, self.read_scores, self.config = network, read_scores, config
        self.jitter = ColorJitter(*config.color_jitter)
        super().__init__(
            network,
            learning_groups(network, network.new_parameters(), config, bias_lr_scale=2.0, decay_biases=False),
            dataset,
            config,
            seed,
            device=device,
            section="labels.refiner.train",
            loading=loading,
        )

    def sample(self, image_id: str, epoch: int, step: int) -> tuple[Float[Tensor, "3 s s"], Int64[Tensor, "g g"]]:
        """A crop of the image, its colours changed, perhaps mirrored, and the labels of its positions.

        Deviates from the authors' code, which pads before it normalises: black, where inference and ours have the mean
        colour. No pair there is counted.
        """
        image, scores = self.dataset.image(image_id), torch.from_numpy(self.read_scores(image_id))
        with seeded("affinity", self.seed, epoch, image_id):
            image = self.jitter(image)
            top, left = (_drawn(length, self.config.crop) for length in scores.shape[2:])
            mirrored = self.config.flip and np.random.random() < 0.5
        pixels = _placed(to_tensor(image, self.affinity_net.mean, self.affinity_net.std), top, left, self.config.crop)
        placed = _placed(scores, top, left, self.config.crop)
        if mirrored:
            pixels, placed = pixels.flip(-1), placed.flip(-1)
        return pixels, position_labels(placed, STRIDE)

    def gradients(self, batch: Samples, size: int, place: str) -> dict[str, Float64[Tensor, ""]]:
        self.optimizer.zero_grad(set_to_none=True)
        kinds = pair_kinds(torch.stack([labels for _, labels in batch.content])).to(self.device)
        counts = kinds.sum(dim=(0, 2, 3, 4))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        sums = total.repeat(len(TERMS))
        for part, kinds_of_part in zip(batch.split(size), kinds.split(size), strict=True):
            images = torch.stack([pixels for pixels, _ in part.content]).to(self.device)
            with autocast(self.device, self.precision):
                features = self.affinity_net.features(images)
            terms = affinity_terms(affinities(features.float()), kinds_of_part, counts)
            loss = affinity_loss(terms)
            refuse_loss(self.checks, dict(zip(TERMS, terms, strict=True)), loss, place, part.all_ids)
            self.scaler.scale(loss).backward()
            total += loss.detach()
            sums += terms.detach()
        terms_found = zip(TERMS, sums, counts.tolist(), strict=True)
        found = {f"train/{name}_loss": value for name, value, count in terms_found if count}
        return {self.LOSS: total} | found if found else {}


def _drawn(length: int, crop: int) -> int:
    """Draw where a crop begins on an axis: in the image, or before it where the image is the smaller."""
    space = length - crop
    return int(np.random.randint(space + 1)) if space > 0 else -int(np.random.randint(1 - space))


def _placed(maps: Float[Tensor, "*b h w"], top: int, left: int, crop: int) -> Float[Tensor, "*b s s"]:
    """The crop of the maps, 0 outside of them."""
    inside = maps[..., max(top, 0) : top + crop, max(left, 0) : left + crop]
    before = (max(-left, 0), max(-top, 0))
    border = (before[0], crop - before[0] - inside.shape[-1], before[1], crop - before[1] - inside.shape[-2])
    return F.pad(inside, border)
