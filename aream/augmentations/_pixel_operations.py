"""timm's single changes of an image, of many images at once on any device.

Each takes ``images`` of uint8 and one tuple of arguments an image, as timm hands them to its own function of the name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as pixels

Images = UInt8[Tensor, "n 3 side side"]
Arguments = Sequence[tuple[float, ...]]
Fill = tuple[int, int, int]
MIDDLE = 128
"""Below it, solarizing additively adds."""


def _column(images: Tensor, given: Arguments, at: int = 0) -> Float[Tensor, "n 1 1 1"]:
    return torch.tensor([one[at] for one in given], device=images.device)[:, None, None, None]


def _blended(degenerate: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """As Pillow's enhancers: 0 is degenerate, 1 the image, beyond it more than the image; rounded towards 0."""
    return (degenerate + factors * (images.float() - degenerate)).clamp(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Float[Tensor, "n 1 side side"]:
    return pixels.rgb_to_grayscale(images.float()).round()


def brightness(images: Images, given: Arguments) -> Images:
    return _blended(torch.zeros((), device=images.device), images, _column(images, given))


def contrast(images: Images, given: Arguments) -> Images:
    return _blended(_grey(images).mean(dim=(1, 2, 3), keepdim=True).round(), images, _column(images, given))


def colour(images: Images, given: Arguments) -> Images:
    return _blended(_grey(images), images, _column(images, given))


def sharpness(images: Images, given: Arguments) -> Images:
    """The frame of one pixel stays, as Pillow's smoothing leaves it."""
    kernel = torch.ones(3, 1, 3, 3, device=images.device)
    kernel[:, :, 1, 1] = 5
    smooth = images.float()
    smooth[:, :, 1:-1, 1:-1] = functional.conv2d(smooth, kernel / 13, groups=3).round()
    return _blended(smooth, images, _column(images, given))


def auto_contrast(images: Images, given: Arguments) -> Images:
    return pixels.autocontrast(images)


def equalize(images: Images, given: Arguments) -> Images:
    return pixels.equalize(images)


def invert(images: Images, given: Arguments) -> Images:
    return 255 - images


def solarize(images: Images, given: Arguments) -> Images:
    return torch.where(images < _column(images, given), images, 255 - images)


def solarize_add(images: Images, given: Arguments) -> Images:
    added = (images + _column(images, given)).clamp(max=255).to(torch.uint8)
    return torch.where(images < MIDDLE, added, images)


def posterize(images: Images, given: Arguments) -> Images:
    """None of the bits is black, 8 or more change nothing."""
    kept = [256 - (1 << 8 - min(8, max(0, int(bits)))) for (bits,) in given]
    return images & torch.tensor(kept, dtype=torch.uint8, device=images.device)[:, None, None, None]


def _moved(images: Tensor, matrices: Sequence[Sequence[float]], fill: Fill) -> Tensor:
    """Bicubic; what comes from outside is ``fill``.

    Args:
        matrices: six numbers (a, b, c, d, e, f) an image: pixel (x, y) comes from (ax + by + c, dx + ey + f).
    """
    side = images.shape[-1]
    theta = torch.tensor(
        [[[a, b, a + b + 2 * c / side - 1], [d, e, d + e + 2 * f / side - 1]] for a, b, c, d, e, f in matrices],
        device=images.device,
    )
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(
        images.float(), grid, mode="bicubic", padding_mode="border", align_corners=False
    ).round()
    inside = (grid.abs() < 1).all(dim=-1)[:, None]
    outside = torch.tensor(fill, device=images.device, dtype=torch.uint8)[:, None, None]
    return torch.where(inside, moved.clamp(0, 255).to(torch.uint8), outside)


def rotate(images: Images, given: Arguments, fill: Fill) -> Images:
    """By degrees, counter-clockwise about the middle."""
    middle, matrices = images.shape[-1] / 2, []
    for (degrees,) in given:
        cos, sin = math.cos(math.radians(-degrees)), math.sin(math.radians(-degrees))
        matrices.append((cos, sin, middle * (1 - cos - sin), -sin, cos, middle * (1 + sin - cos)))
    return _moved(images, matrices, fill)


def shear_x(images: Images, given: Arguments, fill: Fill) -> Images:
    return _moved(images, [(1.0, factor, 0.0, 0.0, 1.0, 0.0) for (factor,) in given], fill)


def shear_y(images: Images, given: Arguments, fill: Fill) -> Images:
    return _moved(images, [(1.0, 0.0, 0.0, factor, 1.0, 0.0) for (factor,) in given], fill)


def translate_x(images: Images, given: Arguments, fill: Fill) -> Images:
    """By pixels."""
    return _moved(images, [(1.0, 0.0, far, 0.0, 1.0, 0.0) for (far,) in given], fill)


def translate_y(images: Images, given: Arguments, fill: Fill) -> Images:
    return _moved(images, [(1.0, 0.0, 0.0, 0.0, 1.0, far) for (far,) in given], fill)


def translate_x_share(images: Images, given: Arguments, fill: Fill) -> Images:
    """By a share of the side."""
    return translate_x(images, [(share * images.shape[-1],) for (share,) in given], fill)


def translate_y_share(images: Images, given: Arguments, fill: Fill) -> Images:
    return translate_y(images, [(share * images.shape[-1],) for (share,) in given], fill)


def desaturate(images: Images, given: Arguments) -> Images:
    return colour(images, [(min(1.0, max(0.0, 1 - share)),) for (share,) in given])


COLOURS: Mapping[str, Callable[[Images, Arguments], Images]] = {
    "AutoContrast": auto_contrast,
    "Brightness": brightness,
    "BrightnessIncreasing": brightness,
    "Color": colour,
    "ColorIncreasing": colour,
    "Contrast": contrast,
    "ContrastIncreasing": contrast,
    "Desaturate": desaturate,
    "Equalize": equalize,
    "Invert": invert,
    "Posterize": posterize,
    "PosterizeIncreasing": posterize,
    "PosterizeOriginal": posterize,
    "Sharpness": sharpness,
    "SharpnessIncreasing": sharpness,
    "Solarize": solarize,
    "SolarizeIncreasing": solarize,
    "SolarizeAdd": solarize_add,
}
MOVES: Mapping[str, Callable[[Images, Arguments, Fill], Images]] = {
    "Rotate": rotate,
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": translate_x,
    "TranslateY": translate_y,
    "TranslateXRel": translate_x_share,
    "TranslateYRel": translate_y_share,
}
"""Those that leave places empty."""
