"""The embedded dataset: drawn scenes with several classes, masks and misleading company. No files, no download.

An object is a body in one colour near its class's, and a part of it tells the class by a texture of a typical
direction and a hue that is nearer: what a classifier looks at is less than what a mask wants, and colour says what
belongs together. Outlines differ by class too, backgrounds are cluttered, and two classes seldom come without a
companion patch that is background in the mask: what a classifier may look at and a CAM should not.
"""

from __future__ import annotations

import colorsys
import functools
import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8
from PIL import Image, ImageDraw

from aream.config import config
from aream.errors import ConfigError
from aream.metrics import IGNORE

CLASSES = ("disc", "square", "triangle", "ring", "cross", "star")
COMPANIONS = {0: "rails", 2: "ripples"}
"""Class index -> the background texture that nearly always stands beside it."""
COMPANION_PROBABILITY = 0.85
MAX_PIXELS = 2**29
"""Most pixels of a split: it is kept in memory, four bytes a pixel."""
STRAY_PROBABILITY = 0.08
"""Probability of a companion in an image without its class."""
BODY_HUE_SPREAD, HUE_SPREAD = 0.08, 0.04
"""Standard deviations of the hue of a body and of its telling part around their class's, in turns; the six classes
stand 1/6 turn apart."""
TURN_SPREAD = 0.25
"""Standard deviation of a texture's direction around its class's, radians."""


UNIT_SQUARE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
_QUARTER = np.array([(0.4, -1.1), (0.4, -0.4), (1.1, -0.4)])
OUTLINES = {
    "square": 0.9 * UNIT_SQUARE,
    "triangle": np.array([(0.0, -1.15), (1.05, 0.8), (-1.05, 0.8)]),
    "cross": np.concatenate([_QUARTER @ np.linalg.matrix_power([[0, 1], [-1, 0]], k) for k in range(4)]),
    "star": np.array(
        [(r * np.sin(k * np.pi / 5), -r * np.cos(k * np.pi / 5)) for k in range(10) for r in [0.6 + 0.6 * (k % 2 == 0)]]
    ),
}
"""Corners of the polygonal classes around the origin, in multiples of the radius."""


@config
class Config:
    image_size: int = 64
    """Side of the square scenes, pixels."""
    train_images: int = 600
    val_images: int = 150
    seed: int = 0
    """Seed of the scenes, not of the training."""

    def __post_init__(self) -> None:
        if not 32 <= self.image_size <= 512:
            raise ConfigError(f"image_size: need 32..512 pixels, got {self.image_size}")
        for name in ("train_images", "val_images"):
            if not 1 <= getattr(self, name) <= 100_000:
                raise ConfigError(f"{name}: need 1..100000, got {getattr(self, name)}")
        pixels = self.image_size**2 * max(self.train_images, self.val_images)
        if pixels > MAX_PIXELS:
            raise ConfigError(
                f"image_size, train_images, val_images: a split is kept in memory, with at most {MAX_PIXELS} pixels; "
                f"got {pixels}"
            )
        if self.seed < 0:
            raise ConfigError(f"seed: need a number >= 0, got {self.seed}")


def build(config: Config) -> Shapes:
    return Shapes(config)


class Scene:
    """One drawn image with its mask and labels."""

    def __init__(self, config: Config, split: str, index: int) -> None:
        self.side = config.image_size
        self.rng = np.random.default_rng((config.seed, {"train": 0, "val": 1}[split], index))
        self.canvas = self._background()
        self.ids = np.zeros((self.side, self.side), dtype=np.uint8)
        self.border = np.zeros((self.side, self.side), dtype=bool)
        count = int(self.rng.choice([1, 2, 3], p=[0.5, 0.4, 0.1]))
        chosen = [int(c) for c in self.rng.choice(len(CLASSES), size=count, replace=False)]
        for index_of_class, companion in COMPANIONS.items():
            likely = COMPANION_PROBABILITY if index_of_class in chosen else STRAY_PROBABILITY
            if self.rng.random() < likely:
                self._companion(companion)
        for class_index in chosen:
            self._object(class_index)

    def mask(self) -> UInt8[np.ndarray, "h w"]:
        """Class numbers from 1, background 0; ignored are outlines, and classes of which only a sliver is seen."""
        mask = np.where(self.border, np.uint8(IGNORE), self.ids)
        seen = np.bincount(mask.ravel(), minlength=IGNORE + 1)
        slivers = [mask_id for mask_id in range(1, len(CLASSES) + 1) if seen[mask_id] < self.side]
        return np.where(np.isin(mask, slivers), np.uint8(IGNORE), mask)

    def labels(self) -> Float32[np.ndarray, " c"]:
        """Return 1 for each class of the mask: one whose object lies hidden has no label."""
        return np.isin(np.arange(1, len(CLASSES) + 1), self.mask()).astype(np.float32)

    def pixels(self) -> UInt8[np.ndarray, "h w 3"]:
        noisy = self.canvas + self.rng.normal(0, 6, self.canvas.shape)
        return noisy.clip(0, 255).astype(np.uint8)

    def _background(self) -> Float32[np.ndarray, "h w 3"]:
        """A soft colour gradient with low-contrast lines and blobs."""
        corner_a, corner_b = self.rng.uniform(70, 170, (2, 3))
        y, x = np.mgrid[: self.side, : self.side] / self.side
        blend = (np.cos(angle := self.rng.uniform(0, np.pi)) * x + np.sin(angle) * y)[..., None]
        canvas = corner_a + (corner_b - corner_a) * blend
        clutter = Image.new("L", (self.side, self.side), 128)
        draw = ImageDraw.Draw(clutter)
        for _ in range(int(self.rng.integers(4, 10))):
            points = [float(v) for v in self.rng.uniform(0, self.side, 4)]
            shade = int(self.rng.integers(96, 160))
            if self.rng.random() < 0.5:
                draw.line(points, fill=shade, width=int(self.rng.integers(1, 4)))
            else:
                box = [
                    min(points[0], points[2]),
                    min(points[1], points[3]),
                    max(points[0], points[2]),
                    max(points[1], points[3]),
                ]
                draw.ellipse(box, fill=shade)
        return (canvas + (np.asarray(clutter, dtype=np.float32) - 128)[..., None]).astype(np.float32)

    def _companion(self, texture: str) -> None:
        """A textured band or pool, background in the mask."""
        w, h = (float(v) for v in self.rng.uniform(0.3, 0.5, 2) * self.side)
        region = self._polygon(UNIT_SQUARE, self._centre(0.2), (w / 2, h / 2))
        u, v = self._axes(self.rng.uniform(0, np.pi))
        period = self.side / 12
        if texture == "rails":
            wave = np.sign(np.sin(2 * np.pi * u / period)) * (np.sin(2 * np.pi * v / (period * 3)) > -0.3)
        else:
            wave = np.sin(2 * np.pi * np.hypot(u - u.mean(), v - v.mean()) / period)
        self._paint(region, self._colour(self.rng.random(), saturation=(0.3, 0.7)), 45 * wave)

    def _object(self, class_index: int) -> None:
        radius = self.rng.uniform(0.22, 0.34) * self.side
        centre = self._centre(0.25)
        region = self._shape(CLASSES[class_index], centre, radius)
        hue = class_index / len(CLASSES)
        body = self._colour(self.rng.normal(hue, BODY_HUE_SPREAD), saturation=(0.6, 0.95))
        self._paint(region, body, self.rng.normal(0, 6, region.shape))
        turn = self.rng.uniform(0, 2 * np.pi)
        place = (centre[0] + 0.5 * radius * np.cos(turn), centre[1] + 0.5 * radius * np.sin(turn))
        part = region & self._shape("disc", place, 0.6 * radius)
        u, v = self._axes(self.rng.normal(0.4 * class_index, TURN_SPREAD))
        period = self.side / 64 * self.rng.uniform(6.5, 8)
        colour = self._colour(self.rng.normal(hue, HUE_SPREAD), saturation=(0.6, 0.95))
        self._paint(part, colour, self.rng.uniform(60, 85) * self._texture(class_index, u, v, period))
        inner = region & _shifted_and(region)
        self.border |= region & ~inner
        self.border &= ~inner
        self.ids[region] = class_index + 1

    def _texture(self, class_index: int, u: np.ndarray, v: np.ndarray, period: float) -> Float32[np.ndarray, "h w"]:
        a, b = np.sin(2 * np.pi * u / period), np.sin(2 * np.pi * v / period)
        patterns = (
            np.sign(a),  # stripes
            np.sign(a * b),  # checker
            np.where((a > 0.3) & (b > 0.3), 1.0, -0.6),  # dots
            np.full_like(a, 1.0),  # plain, bright or dark
            np.where((np.abs(a) < 0.35) | (np.abs(b) < 0.35), 1.0, -0.6),  # grid
            np.sin(2 * np.pi * (u + period * np.sign(np.sin(np.pi * v / period)) * 0.25) / period),  # zigzag
        )
        return patterns[class_index].astype(np.float32)

    def _shape(self, name: str, centre: tuple[float, float], radius: float) -> Bool[np.ndarray, "h w"]:
        if name in ("disc", "ring"):
            y, x = np.mgrid[: self.side, : self.side]
            distance = np.hypot(x - centre[0], y - centre[1])
            return (distance <= radius) & ((distance >= radius * 0.45) if name == "ring" else True)
        return self._polygon(OUTLINES[name], centre, (radius, radius))

    def _polygon(
        self, points: Float64[np.ndarray, "n 2"], centre: tuple[float, float], scale: tuple[float, float]
    ) -> Bool[np.ndarray, "h w"]:
        angle = self.rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        corners = [(float(x), float(y)) for x, y in (points * scale) @ turn + centre]
        image = Image.new("1", (self.side, self.side))
        ImageDraw.Draw(image).polygon(corners, fill=1)
        return np.array(image)

    def _colour(self, hue: float, saturation: tuple[float, float]) -> Float64[np.ndarray, 3]:
        """Draw a colour in 0..255, of a medium brightness."""
        return 255 * np.array(colorsys.hsv_to_rgb(hue % 1, self.rng.uniform(*saturation), self.rng.uniform(0.5, 0.8)))

    def _paint(self, region: Bool[np.ndarray, "h w"], colour: Float64[np.ndarray, 3], wave: np.ndarray) -> None:
        self.canvas[region] = (colour + wave[..., None])[region]

    def _axes(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Pixel coordinates turned by ``angle`` and shifted at random, so that no texture has a fixed phase."""
        dx, dy = self.rng.uniform(0, self.side, 2)
        y, x = np.mgrid[: self.side, : self.side]
        x, y = x + dx, y + dy
        return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x

    def _centre(self, margin: float) -> tuple[float, float]:
        x, y = self.rng.uniform(margin, 1 - margin, 2) * self.side
        return float(x), float(y)


def _shifted_and(region: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels whose four neighbours all belong to the region."""
    padded = np.pad(region, 1)
    inner: Bool[np.ndarray, "h w"] = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inner


@functools.lru_cache(maxsize=8)
def _drawn(
    config: Config, split: str
) -> tuple[UInt8[np.ndarray, "n h w 3"], UInt8[np.ndarray, "n h w"], Float32[np.ndarray, "n c"]]:
    """All scenes of a split; drawn once a process, whatever number of datasets and epochs read them."""
    count = config.train_images if split == "train" else config.val_images
    scenes = [Scene(config, split, index) for index in range(count)]
    return (
        np.stack([scene.pixels() for scene in scenes]),
        np.stack([scene.mask() for scene in scenes]),
        np.stack([scene.labels() for scene in scenes]),
    )


class Shapes:
    """Ids are ``train_00000`` and so on."""

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def class_names(self) -> Sequence[str]:
        return CLASSES

    @property
    def scored_classes(self) -> Sequence[int]:
        return range(len(CLASSES) + 1)

    def ids(self, split: str) -> Sequence[str]:
        count = self.config.train_images if split == "train" else self.config.val_images
        return [f"{split}_{index:05d}" for index in range(count)]

    def image(self, image_id: str) -> Image.Image:
        split, index = image_id.split("_")
        return Image.fromarray(_drawn(self.config, split)[0][int(index)])

    def labels(self, image_id: str) -> Float32[np.ndarray, " c"]:
        split, index = image_id.split("_")
        return _drawn(self.config, split)[2][int(index)]

    def mask(self, image_id: str) -> UInt8[np.ndarray, "h w"] | None:
        split, index = image_id.split("_")
        return _drawn(self.config, split)[1][int(index)]

    def look_at_image(self, image_id: str) -> tuple[tuple[int, int], bytes]:
        image = self.image(image_id)
        return image.size, hashlib.sha256(image.tobytes()).digest()

    def look_at_mask(self, image_id: str) -> tuple[UInt8[np.ndarray, "h w"], bytes] | None:
        split, index = image_id.split("_")
        mask = _drawn(self.config, split)[1][int(index)]
        return mask, hashlib.sha256(mask.tobytes()).digest()
