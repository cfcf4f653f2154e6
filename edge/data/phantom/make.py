"""A phantom from its name, shape, number of objects and seed."""

import math
import os
import zlib

import numpy as np
import numpy.typing as npt

from edge.choices import MODALITIES
from edge.data.case import Case, make_case
from edge.data.extent import box_of, extent_of
from edge.data.modality import modality_of
from edge.data.phantom.paint import Scene, Thing, paint, window
from edge.data.phantom.shapes import Blob, Texture, random_blob, uniform
from edge.data.phantom.styles import STYLES, Colour, Style
from edge.errors import RunError

SPACING_XYZ_MM = {"CT": (0.8, 0.8, 2.5), "MR": (1.2, 1.2, 3.0), "PET": (4.0, 4.0, 4.0)}  # the modalities with volumes
GROW_PX = 5  # the challenge's boxes are 0 to 5 px larger than their object
MAX_OBJECTS = np.iinfo(np.uint16).max
SMALLEST_CELL_PX = 4.0
SMALLEST_RADIUS_PX = 1.5
JITTER, LEAN, LARGEST = 0.12, 0.03, 0.4  # of a cell's side: see _place

Volume = tuple[int, int, int]  # D, H, W
Grid = tuple[float, float, int, int, float, float]  # top and left in px, rows, columns, a cell's height and width in px


def make_phantom(name: str, shape: tuple[int, ...], objects: int, seed: int) -> Case:
    """A case with truth; the same arguments give the same arrays.

    Args:
        name: its prefix (2DBox_, 3DBox_) and modality decide the look.
        shape: (H, W), or (D, H, W) for CT, MR and PET.
        objects: labels 1 to `objects`, each present in its box's middle slice; 0 or more.
        seed: 0 or more; mixed with the name, so cases of one seed differ.

    Raises:
        RunError: a name, shape, number or seed that cannot be, or more objects than there is room for.
    """
    style = _style(name, shape, objects, seed)
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(os.fsencode(name))]))
    depth, height, width = shape if len(shape) == 3 else (1, *shape)
    blobs = _place(rng, name, style, (depth, height, width), objects)
    image, truth = paint(rng, _scene(rng, style, blobs, (depth, height, width)), (depth, height, width))
    boxes = _boxes(rng, blobs, truth)
    if len(shape) == 3:
        return make_case(name, image[..., 0], boxes, np.array(SPACING_XYZ_MM[modality_of(name)]), truth)
    rgb = np.ascontiguousarray(np.broadcast_to(image[0], (height, width, 3)))
    return make_case(name, rgb, boxes[:, [0, 1, 3, 4]], truth=truth[0])


def _style(name: str, shape: tuple[int, ...], objects: int, seed: int) -> Style:
    modality = modality_of(name)
    if modality not in STYLES:
        raise RunError(f"{name}: no modality in this name; write one of {', '.join(MODALITIES)} after 2DBox_ or 3DBox_")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise RunError(f"{name}: a phantom's shape is H,W or D,H,W, each 1 or more, got {','.join(map(str, shape))}")
    if not name.startswith(f"{len(shape)}DBox_"):
        raise RunError(f"{name}: shape has {len(shape)} axes; the name must start with {len(shape)}DBox_")
    if len(shape) == 3 and modality not in SPACING_XYZ_MM:
        raise RunError(f"{name}: volumes are {', '.join(SPACING_XYZ_MM)}; give {modality} a shape of H,W")
    if not 0 <= objects <= MAX_OBJECTS:
        raise RunError(f"{name}: the number of objects must be 0 to {MAX_OBJECTS}, got {objects}")
    if seed < 0:
        raise RunError(f"{name}: the seed must be 0 or more, got {seed}")
    return STYLES[modality]


def _scene(rng: np.random.Generator, style: Style, blobs: list[Blob], shape: Volume) -> Scene:
    side = min(shape[1:])
    textures = tuple((Texture(rng, shape, max(2.0, cell * side)), strength) for cell, strength in style.textures)
    pale = [_mix(style.tissue, _colour(rng, style), 0.45) for _ in range(style.extras)]
    extras = [Thing(_extra(rng, style, shape), colour, 0) for colour in pale]
    objects = [Thing(blob, _colour(rng, style), label) for label, blob in enumerate(blobs, start=1)]
    return Scene(style, style.field(rng, shape), textures, (*extras, *objects))


def _colour(rng: np.random.Generator, style: Style) -> Colour:
    return _mix(*style.objects, rng.random())


def _mix(first: Colour, second: Colour, part: float) -> Colour:
    return tuple(a + (b - a) * part for a, b in zip(first, second, strict=True))


def _extra(rng: np.random.Generator, style: Style, shape: Volume) -> Blob:
    depth, height, width = shape
    top, bottom, left, right = style.region
    center = rng.random() * depth, uniform(rng, top, bottom) * height, uniform(rng, left, right) * width
    radius = uniform(rng, 0.05, 0.15) * min(height * (bottom - top), width * (right - left))
    return random_blob(rng, center, (uniform(rng, 0.2, 0.5) * depth + 0.5, 0.6 * radius + 1, radius + 1))


def _place(rng: np.random.Generator, name: str, style: Style, shape: Volume, objects: int) -> list[Blob]:
    """Blobs that may touch and overlap, none of which loses its centre line.

    Each has a cell of a grid to itself. Centre lines stay within JITTER + LEAN of the cell's middle, and no blob
    reaches further than LARGEST * (1 + LARGEST_WAVE) + LEAN = 0.53 cells: the pixel at a centre,
    1 - 2 * (JITTER + LEAN) = 0.7 cells from the next one, is never covered.
    """
    top, left, rows, columns, cell_y, cell_x = _grid(name, style, shape, objects)
    cell = min(cell_y, cell_x)
    blobs = []
    for place in sorted(rng.permutation(rows * columns)[:objects].tolist()):
        row, column = divmod(place, columns)
        y = top + (row + 0.5 + uniform(rng, -JITTER, JITTER)) * cell_y - 0.5
        x = left + (column + 0.5 + uniform(rng, -JITTER, JITTER)) * cell_x - 0.5
        radius = max(SMALLEST_RADIUS_PX, cell * min(LARGEST, uniform(rng, *style.size)))
        flat = max(SMALLEST_RADIUS_PX, radius * uniform(rng, 0.6, 1))
        half = int(shape[0] * uniform(rng, 0.12, 0.42))
        z = half + int(rng.integers(0, shape[0] - 2 * half))
        blobs.append(random_blob(rng, (z, y, x), (half + 0.5, flat, radius), LEAN * cell))
    return blobs


def _grid(name: str, style: Style, shape: Volume, objects: int) -> Grid:
    """Nearly square cells in the modality's region, or in the whole image where that is too small."""
    _, height, width = shape
    for top, bottom, left, right in (style.region, (0.0, 1.0, 0.0, 1.0)):
        tall, wide = (bottom - top) * height, (right - left) * width
        columns = min(max(1, objects), math.ceil(math.sqrt(objects * wide / tall)) or 1)
        rows = max(1, math.ceil(objects / columns))
        if min(tall / rows, wide / columns) >= SMALLEST_CELL_PX:
            return top * height, left * width, rows, columns, tall / rows, wide / columns
    raise RunError(f"{name}: no room for {objects} objects in {height} x {width} px; ask for fewer or a larger shape")


def _boxes(rng: np.random.Generator, blobs: list[Blob], truth: npt.NDArray) -> npt.NDArray[np.int64]:
    """Boxes (N, 6) of the labels in `truth` (D, H, W): x and y those of the middle slice, grown; z exact."""
    boxes = np.zeros((len(blobs), 6), np.int64)
    _, height, width = truth.shape
    for row, blob in enumerate(blobs):
        rows, columns = window(blob, (0, height), width)
        mask = truth[:, rows, columns] == row + 1
        slices = extent_of(mask)[0]
        middle = box_of(mask[(slices.start + slices.stop - 1) // 2]).astype(int)
        grown = middle + rng.integers(0, GROW_PX + 1, 4) * [-1, -1, 1, 1]
        x_min, y_min, x_max, y_max = (grown + [columns.start, rows.start] * 2).tolist()
        z_min, z_max = slices.start, slices.stop - 1
        boxes[row] = max(0, x_min), max(0, y_min), z_min, min(width - 1, x_max), min(height - 1, y_max), z_max
    return boxes
