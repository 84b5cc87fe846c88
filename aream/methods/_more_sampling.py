"""Draw of patches from the uncertain regions of an image in MoRe."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Int64

from aream.metrics import BACKGROUND, IGNORE

MOST = 8
"""Patches drawn of an image."""
WINDOW = 6
"""Patches a side of the window around a drawn one."""
UNCERTAIN, FOREGROUND = 1, 2
"""Codes of patches without and with a class; background is 0."""
LEAST_MEAN = 1.2
"""Least mean of the codes in a window: fewer background patches than uncertain ones would leave it at."""


def codes(mask: Int64[np.ndarray, "h w"]) -> Int64[np.ndarray, "h w"]:
    """Return 0 for background, 1 for what is uncertain (255), 2 for any class."""
    return np.where(mask == BACKGROUND, 0, np.where(mask == IGNORE, UNCERTAIN, FOREGROUND))


def candidates(of: Int64[np.ndarray, "h w"]) -> Int64[np.ndarray, " count"]:
    """Flat positions (i, j) whose window [i, i+6) x [j, j+6) has an uncertain middle and a mean code >= 1.2.

    The middle is (i+3, j+3), and both run up to the side less 7, as in the authors' code: the patch that is drawn is
    the corner of the window, three up and left of the one that is looked at.
    """
    sums = np.lib.stride_tricks.sliding_window_view(of, (WINDOW, WINDOW))[:-1, :-1].sum(axis=(2, 3))
    found: Int64[np.ndarray, " count"] = _positions((_middles(of) == UNCERTAIN) & (sums / WINDOW**2 >= LEAST_MEAN), of)
    return found


def drawn(of: Int64[np.ndarray, "h w"], *seed: object) -> Int64[np.ndarray, " count"]:
    """Return at most 8 flat positions of a grid of codes, whose sides are at least 7.

    Of more than 8 candidates 8 at random. n of them are all taken, and (8 - n) // 4 more by windows whose middle is
    foreground, or by any where there are too few of those.

    Args:
        seed: what the draw depends on beside the codes; its ``repr`` counts. Deviates from the authors' code, which
            draws from the training's own generator: the same images are then the same draw in pieces and on several
            processes.
    """
    random = np.random.default_rng(list(hashlib.sha256(repr(seed).encode()).digest()[:8]))
    found = candidates(of)
    if len(found) > MOST:
        return random.permutation(found)[:MOST]
    more = (MOST - len(found)) // 4
    pool = _positions(_middles(of) == FOREGROUND, of)
    if len(pool) < more:
        pool = _positions(np.ones_like(_middles(of), dtype=bool), of)
    return np.concatenate([found, random.permutation(pool)[:more]])


def _middles(of: Int64[np.ndarray, "h w"]) -> Int64[np.ndarray, "rows columns"]:
    margin = WINDOW // 2
    return of[margin : of.shape[0] - margin, margin : of.shape[1] - margin]


def _positions(chosen: np.ndarray, of: Int64[np.ndarray, "h w"]) -> Int64[np.ndarray, " count"]:
    """Flat positions in the grid of the windows' corners."""
    rows, columns = np.nonzero(chosen)
    return rows * of.shape[1] + columns
