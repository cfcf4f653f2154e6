"""A scene to pixels and labels, a band of rows at a time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.data.phantom.shapes import Array, Blob, Texture, noise, soft
from edge.data.phantom.styles import Colour, Shade, Style

BAND_ROWS = 256  # rows painted at once: float32 memory does not grow with the image


@dataclass(frozen=True)
class Thing:
    """A blob with its colour."""

    blob: Blob
    colour: Colour
    label: int  # 0: not an object


@dataclass(frozen=True)
class Scene:
    """All that `paint` needs but the noise."""

    style: Style
    shade: Shade
    textures: tuple[tuple[Texture, float], ...]  # with strength
    things: tuple[Thing, ...]  # in painting order


def paint(
    rng: np.random.Generator, scene: Scene, shape: tuple[int, int, int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray]:
    """Image (D, H, W, 1 or 3) and labels (D, H, W), uint8 or, above 255 labels, uint16."""
    depth, height, width = shape
    image = np.empty((*shape, len(scene.style.tissue)), np.uint8)
    truth = np.zeros(shape, np.min_scalar_type(max((thing.label for thing in scene.things), default=0)))
    xs = np.arange(width, dtype=np.float32)
    for z in range(depth):
        for top in range(0, height, BAND_ROWS):
            rows = slice(top, min(height, top + BAND_ROWS))
            ys = np.arange(rows.start, rows.stop, dtype=np.float32)
            canvas = _tissue(scene, z, ys, xs)
            for thing in scene.things:
                _draw(canvas, truth[z, rows], scene.style, thing, z, ys, xs)
            canvas *= _light(scene, shape, z, ys, xs)[..., None]
            canvas += noise(rng, canvas.shape) * scene.style.noise
            image[z, rows] = np.rint(np.clip(canvas, 0, 255))
    return image, truth


def window(blob: Blob, rows: tuple[int, int], width: int, edge_px: float = 0.0) -> tuple[slice, slice]:
    """The rows, of those from `rows[0]` up to `rows[1]`, and the columns that hold all of a blob and its soft edge."""
    reach = blob.reach_px + edge_px + 1
    _, y, x = blob.center
    return (
        slice(min(max(rows[0], int(y - reach)), rows[1]), max(rows[0], min(rows[1], int(y + reach) + 1))),
        slice(max(0, int(x - reach)), max(0, min(width, int(x + reach) + 1))),
    )


def _tissue(scene: Scene, z: int, ys: Array, xs: Array) -> Array:
    tissue, outside = np.array(scene.style.tissue, np.float32), np.array(scene.style.outside, np.float32)
    return outside + (tissue - outside) * scene.shade(z, ys, xs)[..., None]


def _draw(canvas: Array, truth: npt.NDArray, style: Style, thing: Thing, z: int, ys: Array, xs: Array) -> None:
    """Blend a blob into rows `ys` of the canvas (h, W, channels) and, if it is an object, into their truth (h, W)."""
    blob, first = thing.blob, int(ys[0])
    if abs(z - blob.center[0]) >= blob.radii[0]:
        return
    edge_px = min(style.edge_px, 0.4 * min(blob.radii[1:]))
    rows, columns = window(blob, (first, first + len(ys)), len(xs), edge_px)
    rows = slice(rows.start - first, rows.stop - first)
    depth_px = blob.depth_px(z, ys[rows], xs[columns])
    part = soft(depth_px, edge_px)[..., None] * style.opacity
    canvas[rows, columns] += part * (np.array(thing.colour, np.float32) - canvas[rows, columns])
    if thing.label:
        truth[rows, columns][depth_px > 0] = thing.label


def _light(scene: Scene, shape: tuple[int, int, int], z: int, ys: Array, xs: Array) -> Array:
    y, x = ys[:, None] / shape[1] * 2 - 1, xs[None] / shape[2] * 2 - 1
    light = 1 - scene.style.falloff * (y * y + x * x)
    for texture, strength in scene.textures:
        light = light * (1 + strength * texture.sample(z, ys, xs))
    return light
