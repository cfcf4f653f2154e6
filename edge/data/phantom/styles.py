"""One look per modality: where there is tissue, in what colours, how rough and how noisy."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edge.data.phantom.shapes import Array, Blob, random_blob, soft, uniform

Shade = Callable[[int, Array, Array], Array]  # slice, rows (h,), columns (w,) -> share of tissue (h, w), 0 to 1
Colour = tuple[float, ...]  # one grey level or red, green, blue; 0 to 255


def _whole(rng: np.random.Generator, shape: tuple[int, int, int]) -> Shade:
    return lambda z, ys, xs: np.ones((len(ys), len(xs)), np.float32)


def _body(rng: np.random.Generator, shape: tuple[int, int, int]) -> Shade:
    depth, height, width = shape
    radii = (1.2 * depth, 0.40 * height, 0.44 * width)
    blob = Blob((depth / 2, height / 2, width / 2), radii, (1.0, 0.0), (0.0, 0.0), ((0.03, uniform(rng, -0.03, 0.03)),))
    return lambda z, ys, xs: soft(blob.depth_px(z, ys, xs), 1.5)


def _chest(rng: np.random.Generator, shape: tuple[int, int, int]) -> Shade:
    _, height, width = shape
    centers = [(0, 0.45 * height, x * width) for x in (0.29, 0.71)]
    lungs = [replace(random_blob(rng, at, (1, 0.17 * width, 0.3 * height)), axis=(0, 1)) for at in centers]
    ribs = uniform(rng, 7, 10)

    def shade(z: int, ys: Array, xs: Array) -> Array:
        air = sum(soft(lung.depth_px(0, ys, xs), 0.02 * height) for lung in lungs)
        x = xs[None] / width * 2 - 1
        wave = ys[:, None] / height * ribs + x * x * 2
        rib = soft(np.abs(wave - np.floor(wave) - 0.5) - 0.3, 0.08)
        return (0.72 - 0.45 * air + 0.16 * rib) * (1.15 - 0.5 * x * x)

    return shade


def _fan(rng: np.random.Generator, shape: tuple[int, int, int]) -> Shade:
    _, height, width = shape

    def shade(z: int, ys: Array, xs: Array) -> Array:
        y, x = ys[:, None] / height + 0.1, (xs[None] / width - 0.5) * 1.4
        radius = np.sqrt(x * x + y * y)
        inside = np.minimum(0.8 * y - np.abs(x), np.minimum(1.06 - radius, radius - 0.16))
        return soft(inside * height, 1.5) * (1.15 - 0.6 * radius)

    return shade


def _breast(rng: np.random.Generator, shape: tuple[int, int, int]) -> Shade:
    _, height, width = shape
    reach = uniform(rng, 0.75, 0.9)

    def shade(z: int, ys: Array, xs: Array) -> Array:
        y, x = ys[:, None] / height * 2.2 - 1.1, xs[None] / (width * reach)
        inside = 1 - np.sqrt(x * x + y * y)
        return soft(inside * width, 3.0) * np.minimum(1, 0.55 + 1.2 * np.maximum(inside, 0))

    return shade


def _layers(rng: np.random.Generator, shape: tuple[int, int, int]) -> Shade:
    _, height, width = shape
    top, bend = uniform(rng, 0.24, 0.3), uniform(rng, -0.08, 0.08)
    steps = ((0, 0.65), (0.05, -0.35), (0.12, 0.25), (0.19, -0.3), (0.34, 0.55), (0.4, -0.3), (0.55, -0.35))

    def shade(z: int, ys: Array, xs: Array) -> Array:
        x = xs[None] / width * 2 - 1
        below = ys[:, None] / height - (top + bend * x * x)
        layers = np.full_like(below, 0.08)
        for at, step in steps:
            layers += soft((below - at) * height, 0.01 * height + 1) * step
        return layers

    return shade


def _retina(rng: np.random.Generator, shape: tuple[int, int, int]) -> Shade:
    _, height, width = shape
    bends = [uniform(rng, 0.03, 0.9) * sign for sign in (1, -1) for _ in range(3)]

    def shade(z: int, ys: Array, xs: Array) -> Array:
        y, x = ys[:, None] / height * 2 - 1, xs[None] / width * 2 - 1
        eye = soft((0.95 - np.sqrt(x * x + y * y)) * height / 2, 1.5)
        for bend in bends:  # arcades: sideways parabolas through the optic disc
            off = np.abs(y * y - bend * (0.35 - x)) / (2 * np.abs(y) + abs(bend))
            eye = eye * (1 - 0.4 * soft(0.012 - off, 0.008))
        return eye

    return shade


@dataclass(frozen=True)
class Style:
    """How a modality looks. Lengths are shares of the image unless they end in _px."""

    field: Callable[[np.random.Generator, tuple[int, int, int]], Shade]
    outside: Colour
    tissue: Colour
    objects: tuple[Colour, Colour]  # an object's colour lies between the two
    region: tuple[float, float, float, float] = (
        0.25,
        0.75,
        0.22,
        0.78,
    )  # top, bottom, left, right of where objects are
    size: tuple[float, float] = (0.2, 0.38)  # radius, share of the place each object has
    edge_px: float = 1.2
    opacity: float = 1.0  # below 1 what lies behind an object shows through
    extras: int = 0  # blobs that are not objects
    textures: tuple[tuple[float, float], ...] = ((0.1, 0.08),)  # grid cell, strength
    falloff: float = 0.0  # light lost in the corners
    noise: float = 5.0  # standard deviation, grey levels


STYLES = {
    "CT": Style(
        _body, (2,), (105,), ((135,), (185,)), size=(0.26, 0.4), extras=7, textures=((0.08, 0.06),), noise=6,
    ),
    "MR": Style(
        _body, (3,), (90,), ((130,), (200,)), size=(0.24, 0.4), extras=7, textures=((0.6, 0.35), (0.04, 0.1)),
    ),
    "PET": Style(
        _body, (1,), (26,), ((130,), (235,)), size=(0.12, 0.3), edge_px=3, extras=4, textures=((0.05, 0.3),), noise=4,
    ),
    "X-Ray": Style(
        _chest, (0,), (210,), ((225,), (255,)), size=(0.24, 0.38), edge_px=2, opacity=0.5, noise=3,
    ),
    "US": Style(
        _fan, (0,), (120,), ((14,), (40,)), region=(0.3, 0.85, 0.3, 0.7), size=(0.25, 0.4), edge_px=2,
        textures=((0.1, 0.3), (0.009, 0.7)), noise=3,
    ),
    "Mammography": Style(
        _breast, (0,), (120,), ((180,), (235,)), region=(0.25, 0.75, 0.06, 0.55), size=(0.18, 0.34), edge_px=4,
        opacity=0.8, extras=5, textures=((0.12, 0.3), (0.03, 0.2)), noise=3,
    ),
    "OCT": Style(
        _layers, (6,), (190,), ((12,), (28,)), region=(0.36, 0.64, 0.12, 0.88), size=(0.25, 0.4), edge_px=1.5,
        textures=((0.01, 0.45),), noise=6,
    ),
    "Endoscopy": Style(
        _whole, (0, 0, 0), (176, 84, 66), ((205, 105, 92), (222, 148, 128)), region=(0.2, 0.8, 0.2, 0.8), edge_px=3,
        opacity=0.9, extras=4, textures=((0.25, 0.25), (0.04, 0.08)), falloff=0.45, noise=3,
    ),
    "Fundus": Style(
        _retina, (2, 1, 1), (178, 86, 36), ((232, 176, 92), (250, 214, 140)), region=(0.3, 0.7, 0.5, 0.85),
        size=(0.22, 0.32), edge_px=4, opacity=0.85, textures=((0.25, 0.15), (0.02, 0.05)), falloff=0.3, noise=2,
    ),
    "Dermoscopy": Style(
        _whole, (0, 0, 0), (218, 172, 150), ((88, 52, 42), (140, 88, 66)), region=(0.15, 0.85, 0.15, 0.85), edge_px=5,
        opacity=0.95, textures=((0.2, 0.08), (0.03, 0.08)), falloff=0.25, noise=3,
    ),
    "Microscopy": Style(
        _whole, (0, 0, 0), (228, 176, 206), ((84, 52, 128), (128, 84, 160)), region=(0, 1, 0, 1), size=(0.22, 0.4),
        opacity=0.95, extras=8, textures=((0.06, 0.1), (0.015, 0.07)), falloff=0.05, noise=4,
    ),
}  # fmt: skip
