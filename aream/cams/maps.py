"""Class activation maps: normalising them and refining them by an affinity."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from aream.cams.precision import widened, without_autocast


def normalise(cam: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b h w"]:
    """Rectify, subtract the spatial minimum, divide by (maximum + 1e-6): each map to [0, 1) (AReAM Eq. 2).

    Done once, after scales and flips are summed, as the authors' code does. A constant map gives zeros.
    """
    cam = F.relu(cam)
    cam = cam - cam.amin(dim=(-2, -1), keepdim=True)
    return cam / (cam.amax(dim=(-2, -1), keepdim=True) + 1e-6)


def refine(cam: Float[Tensor, "b c h w"], affinity: Float[Tensor, "b n n"]) -> Float[Tensor, "b c h w"]:
    """Position m takes the mean of the map weighted by its affinity row: sum_n A_mn M_c,n (AReAM Eq. 9); in 32 bits at
    least."""
    maps = widened(cam)
    with without_autocast(maps):
        return (maps.flatten(2) @ affinity.to(maps.dtype).transpose(1, 2)).reshape(maps.shape)


def pick_maps(maps: Float[Tensor, "b c h w"], order: Int64[Tensor, "b k"]) -> Float[Tensor, "b k h w"]:
    """The maps of each image that ``order`` names, in its order."""
    return maps.gather(1, order[:, :, None, None].expand(-1, -1, *maps.shape[2:]))


def spread_maps(maps: Float[Tensor, "b k h w"], order: Int64[Tensor, "b k"], classes: int) -> Float[Tensor, "b c h w"]:
    """Maps of some classes among those of all: what ``order`` does not name is zero."""
    b, _, h, w = maps.shape
    return maps.new_zeros(b, classes, h, w).scatter(1, order[:, :, None, None].expand_as(maps), maps)


def fuse_class_attention(
    cam: Float[Tensor, "b c h w"], class_attention: Float[Tensor, "b c n"]
) -> Float[Tensor, "b c h w"]:
    """Each class's map times the attention its class token pays to every patch (MCTformer, fused localisation)."""
    return cam * class_attention.to(cam.dtype).reshape(cam.shape)
