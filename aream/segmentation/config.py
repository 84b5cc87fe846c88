"""The ``segmentation`` section: how a segmenter is trained on pseudo-labels, and how it is tested."""

from __future__ import annotations

from typing import Literal

from aream.config import added, config
from aream.crf import dense_crf
from aream.engine.batches import check_scales
from aream.engine.poly_sgd import PolySgdConfig
from aream.errors import ConfigError
from aream.images import MAX_SCALE, MAX_SIDE

Merge = Literal["mean_logits", "mean_softmax", "max_softmax"]


@config
class SegmentationTraining(PolySgdConfig):
    """Stochastic gradient descent with momentum and a polynomial schedule.

    Defaults are those of MCTformer's and AReAM's scripts, except for what the scripts get wrong (``momentum``,
    ``weight_decay``) and ``scale_per``. The settings of each paper stand in ``aream/segmenters/deeplab_largefov.py``.
    """

    epochs: int = 30
    """Passes over the pseudo-labelled images."""
    iterations: int | None = None
    """Steps of the whole training, instead of ``epochs`` (TransCAM: 20000); null: as many as the epochs have."""
    batch_size: int = 4
    """Images a step (TransCAM: 10)."""
    lr: float = 7e-4
    """Learning rate of the encoder at the first step (TransCAM: 1e-3)."""
    bias_lr_scale: float = 1.0
    """Learning rate of biases and norms, as a multiple of what their layer's weights have (TransCAM: 2, so that there
    are groups of 1, 2, 10 and 20 times ``lr``)."""
    momentum: float = 0.9
    """Momentum of SGD. Deviates: the scripts of MCTformer and AReAM give their weight decay, 1e-5, to the optimizer at
    the place of the momentum, so that their figures come from a momentum of 1e-5 and no decay; TransCAM's from 0.9."""
    weight_decay: float = 5e-4
    """Weight decay (TransCAM: 5e-4). Deviates: see ``momentum``; the figures of MCTformer and AReAM come from 0."""
    decay_biases: bool = True
    """Let biases and norms decay too (TransCAM: no)."""
    poly_power: float = 0.9
    """The learning rate falls as (1 - step / steps) to this power. Deviates from TransCAM by one step: there
    (1 - step / (steps + 1))."""
    crop: int = 321
    """Side of the square crop, pixels (TransCAM: 448); smaller images are padded with ignored pixels. Deviates:
    MCTformer and AReAM pad the labels with background."""
    scale: tuple[float, float] = (0.7, 1.3)
    """Range of the random scale before the crop (TransCAM: 0.5 to 1.5), bicubic. Deviates: the scripts interpolate
    linearly."""
    scale_per: Literal["image", "batch"] = "image"
    """Unit that a random scale is drawn for: each image, as with TransCAM, or a batch, as with MCTformer and AReAM."""
    hsv_jitter: int = 0
    """Largest random shift of an image's hue (in steps of 2 degrees), saturation and value (of 255) before it is
    scaled (TransCAM: 10; MCTformer and AReAM: 0)."""

    def __post_init__(self) -> None:
        PolySgdConfig.__post_init__(self)
        for name in ("bias_lr_scale", "poly_power"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: need a positive number, got {getattr(self, name)}")
        if self.iterations is not None and not 1 <= self.iterations <= 100_000_000:
            raise ConfigError(f"iterations: need null or a number in 1..100000000, got {self.iterations}")
        if not 0 < self.scale[0] <= self.scale[1] <= MAX_SCALE:
            raise ConfigError(f"scale: need 0 < low <= high <= {MAX_SCALE:g}, got {list(self.scale)}")
        if not 0 <= self.hsv_jitter <= 90:
            raise ConfigError(f"hsv_jitter: need a shift in 0..90, got {self.hsv_jitter}")

    @property
    def known_epochs(self) -> int:
        """Epochs that will be reported; 0 where that depends on the number of images."""
        return 0 if self.iterations else self.epochs


@config
class SegmentationEvaluation:
    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5)
    """Scales that are merged (MCTformer, AReAM; TransCAM: 0.5 to 1.75 by 0.25), bicubic. Deviates: the scripts
    interpolate linearly."""
    flip: bool = True
    """Merge mirrored images too (TransCAM; MCTformer and AReAM: no)."""
    merge: Merge = "mean_logits"
    """Way from the views of an image, each enlarged to its size, to one: the mean of their logits (TransCAM), the mean
    of their class probabilities, or the largest probability of each class (MCTformer, AReAM)."""
    crf: dense_crf.Config | None = None
    """Dense CRF on the merged probabilities, or null for none. MCTformer and AReAM: iterations 10, gaussian_sxy 4,
    gaussian_compat 3, bilateral_sxy 83, bilateral_srgb 5, bilateral_compat 3. TransCAM: iterations 1, bilateral_sxy
    32, bilateral_srgb 13, bilateral_compat 10."""

    image_size: int | None = added(None)
    """Side of the square that images are resized to before they are scaled (MoRe: 448); null: their own size."""

    def __post_init__(self) -> None:
        check_scales("scales", self.scales)
        if self.image_size is not None and not 1 <= self.image_size <= MAX_SIDE:
            raise ConfigError(f"image_size: need a number in 1..{MAX_SIDE} or null, got {self.image_size}")
