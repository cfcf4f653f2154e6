"""The samples of LiteMedSAM's training by position: views of images and of single slices, and steps of walks."""

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from edge.data.extent import box_of
from train.data.batch import Pixels, ViewSample
from train.data.draws import LEAST_DEPTH, ObjectDraws
from train.data.placement import place_box
from train.data.prepared import Prepared
from train.data.prompts import holds, loosen, prompt_of
from train.data.sampler import VIEW_EXTENTS, Layout, Place
from train.data.walks import make_walk

TRIES = 40  # of drawing an object that suits a view's size; the last is taken anyway
WALKED = 0.6  # of the samples of volumes that are answered once are steps of a walk; the others are slices alone


class ViewSamples(Dataset):
    """The samples of one epoch, by position."""

    def __init__(self, data: Prepared, draws: ObjectDraws, layout: Layout, flip: float, seed: tuple[int, int]) -> None:
        """Args: flip: as `place_box` takes it; seed: of the run and of the epoch."""
        self._data, self._draws, self._flip, self._seed = data, draws, flip, seed
        self._places = layout.places

    def __getitem__(self, position: int) -> ViewSample:
        chance = np.random.default_rng((*self._seed, position))
        place = self._places[position % len(self._places)]
        row = self._draw_fitting(place, chance)
        chosen = (self._data, row, place.size, self._flip, chance)
        if self._depth(row) >= LEAST_DEPTH and (place.unrolled or chance.random() < WALKED):
            walk = make_walk(*chosen, unrolled=place.unrolled)
            if walk is not None:
                return walk
        return make_view(*chosen, unrolled=place.unrolled)

    def _draw_fitting(self, place: Place, chance: np.random.Generator) -> int:
        """A row of the objects, of an extent that suits the view."""
        least, most = VIEW_EXTENTS[place.size]
        for _ in range(TRIES):
            row = self._draws.draw(chance, volumes=place.unrolled)
            _, _, _, y_min, x_min, _, y_max, x_max, _ = self._data.objects[row].tolist()
            if least <= max(y_max - y_min, x_max - x_min) + 1 <= most:
                break
        return row

    def _depth(self, row: int) -> int:
        return self._data.cases[self._data.objects[row, 0]].shape[0]


def make_view(
    data: Prepared, row: int, size: int, flip: float, chance: np.random.Generator, *, unrolled: bool = False
) -> ViewSample:
    """An object's view of `size` px in its image, or in one slice of its range.

    It is shown and prompted as the runtime does both: by its box, in a volume the tracked one where that holds enough
    of it, made looser by chance.

    Args:
        flip: as `place_box` takes it.
        unrolled: the same slice comes again as the next one: for a place of two steps, where the object cannot walk.
    """
    case, label, z_min, _, _, z_max, _, _, first_box = data.objects[row].tolist()
    z, image, mask = _draw_slice(data, case, label, (z_min, z_max), chance)
    tracked = data.tracked[first_box + z - z_min].astype(np.float64)
    box = tracked if holds(tracked, mask) else box_of(mask)
    px_per_px = data.cases[case].scale
    given = loosen(box, px_per_px, mask.shape, chance)
    placement = place_box(given, size, flip, chance)
    prompt = placement.box_to_sample(prompt_of(given, px_per_px))
    target = _with_a_pixel(placement.show_masks(mask[..., None])[..., 0])
    span = (float(image.min()), float(image.max()))
    planes = np.broadcast_to(placement.show(image, int(span[0])), (size, size, 3))
    pixels = np.ascontiguousarray(planes.transpose(2, 0, 1))
    again = (pixels[0], target) if unrolled else (None, None)
    return ViewSample(size, pixels, span, False, prompt, target, *again)


def _draw_slice(
    data: Prepared, case: int, label: int, held_on: tuple[int, int], chance: np.random.Generator
) -> tuple[int, Pixels, npt.NDArray[np.bool_]]:
    """A slice of a range, first and last included, its pixels (H, W, C), and the object's mask (H, W), not empty."""
    while True:
        z = int(chance.integers(held_on[0], held_on[1] + 1))
        pixels, labels = data.slice(case, z)
        mask = np.asarray(labels == label)
        if mask.any():  # always on the first and the last
            return z, np.asarray(pixels), mask


def _with_a_pixel(shown: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A shown mask (s, s), 0 to 255; what is thinner than a pixel gets those that it covers most."""
    if (shown >= 128).any() or not shown.any():
        return shown
    return np.where(shown == shown.max(), 255, shown).astype(np.uint8)
