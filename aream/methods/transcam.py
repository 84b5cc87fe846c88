"""TransCAM: the plain Conformer with one loss on the sum of both logits, its CAM refined by its mean affinity.

Source: Li et al., "TransCAM: Transformer attention-based CAM refinement for weakly supervised semantic segmentation",
JVCIR 2023. Its inference is ``inference: {image_size: 512, scales: [0.5, 1.0, 1.5]}``, mirrored images included and
``layers: all``; its training ``train: {image_size: 512, batch_size: 8, epochs: 20, lr: 5e-5, lr_floor: 5e-5,
lr_warmup_epochs: 0, weight_decay: 5e-4, select: last}`` on crops of ``augmentation: {name: scale_and_crop, long_side:
[320, 640], color_jitter: [0.3, 0.3, 0.3, 0.1], color_jitter_probability: 1.0}``.

Deviates: affinities are averaged, not summed, over layers, a factor that normalising takes out; a CAM is normalised as
AReAM's (:func:`aream.cams.maps.normalise`), where TransCAM sets values within 1e-5 of the minimum to 0, subtracts 1e-5
more and divides by the range plus 1e-5, so that its lowest scores lie a little below 0; crops are padded with black,
TransCAM's with the mean colour; biases, norms and the class token do not decay, TransCAM's do; there is no 21st output.
"""

from typing import Any

from aream.errors import ConfigError
from aream.methods._plain import Config, PlainHost, build, needs_entropy, resolve

__all__ = ["TRAINS_AS", "Config", "PlainHost", "build", "check_host", "needs_entropy", "resolve"]

TRAINS_AS = "mean_affinity"


def check_host(config: Any, host: str, host_config: Any) -> None:
    """
    Raises:
        ConfigError: the backbone is no Conformer with TransCAM's head.
    """
    if host != "conformer":
        raise ConfigError(f"method.name: transcam needs the backbone conformer, got {host}; mean_affinity takes any")
    if host_config.head != "transcam":
        raise ConfigError(
            f"method.name: transcam needs backbone.head: transcam, got {host_config.head}; mean_affinity takes any head"
        )
