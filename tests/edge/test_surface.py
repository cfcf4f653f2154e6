"""Surface distances: answers worked out by hand, then a slow independent reckoning with SciPy."""

import math

import numpy as np
import pytest

from edge.scoring.surface import contour_lengths, neighbour_codes, normalized_surface_dice, surface_areas


def disc(x: float, radius: float = 100, size: int = 310) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - 150) ** 2 + (columns - x) ** 2 <= radius**2


def nsd_by_distance_maps(truth: np.ndarray, prediction: np.ndarray, spacing: tuple, tolerance: float) -> float:
    """The public program's way: a full distance map from each surface."""
    ndimage = pytest.importorskip("scipy.ndimage")
    kernel = 2 ** np.arange(2**truth.ndim)[::-1].reshape((2,) * truth.ndim)
    codes = [ndimage.correlate(np.pad(mask, 1).astype(int), kernel, mode="constant") for mask in (truth, prediction)]
    sizes = contour_lengths(spacing) if truth.ndim == 2 else surface_areas(spacing)
    borders = [(code != 0) & (code != len(sizes) - 1) for code in codes]
    maps = [ndimage.distance_transform_edt(~border, sampling=spacing) for border in borders]
    near = [sizes[codes[k]][borders[k] & (maps[1 - k] <= tolerance)].sum() for k in (0, 1)]
    return sum(near) / sum(sizes[codes[k]][borders[k]].sum() for k in (0, 1))


def test_equal_masks_score_one() -> None:
    """Nothing lost: the same surface agrees with itself at tolerance 0."""
    assert normalized_surface_dice(disc(140), disc(140), (1, 1), 0) == 1


def test_one_empty_mask_scores_zero_and_two_are_not_a_number() -> None:
    """A missing object is wrong; nothing against nothing is no measurement."""
    empty = np.zeros((310, 310), bool)
    assert normalized_surface_dice(disc(140), empty, (1, 1), 2) == 0
    assert normalized_surface_dice(empty, disc(140), (1, 1), 2) == 0
    assert math.isnan(normalized_surface_dice(empty, empty, (1, 1), 2))


def test_a_disc_shifted_by_six_pixels_keeps_a_quarter_of_its_contour() -> None:
    """The circles lie 6 |cos| px apart; on the grid up to 2.5 px rounds to 2: 4 asin(2.5 / 6) / (2 pi) = 0.274 of the
    contour. As a volume one voxel thick every pixel of the disc counts as surface and hides the error."""
    truth, prediction = disc(140), disc(146)
    assert normalized_surface_dice(truth, prediction, (1, 1), 2) == pytest.approx(0.266, abs=0.01)
    thick = normalized_surface_dice(truth[..., None], prediction[..., None], (1, 1, 1), 2)
    assert thick == pytest.approx(0.981, abs=0.001)


def slab_shifted_by_one_slice() -> tuple[np.ndarray, np.ndarray]:
    """A slab of 8 slices of 30 x 30 and the same one slice higher."""
    truth = np.zeros((9, 30, 30), bool)
    prediction = truth.copy()
    truth[:8] = prediction[1:] = True
    return truth, prediction


def test_one_slice_of_five_mm_counts_only_with_the_spacing_on_the_right_axis() -> None:
    """Shifted by 5 mm with 2 mm allowed: with (1, 1, 5) against (z, y, x) it is seen as 1 mm and all agrees."""
    truth, prediction = slab_shifted_by_one_slice()
    assert normalized_surface_dice(truth, prediction, (1, 1, 5), 2) == 1
    assert normalized_surface_dice(truth, prediction, (5, 1, 1), 2) == pytest.approx(0.727, abs=0.01)


def test_the_shifted_slab_scores_what_a_pencil_says() -> None:
    """Lost of each slab: its far lid whole; of its near lid what lies more than 2 px inside the other's walls."""
    truth, prediction = slab_shifted_by_one_slice()
    corner, rim = math.sqrt(1 + 25 + 25) / 8, math.sqrt(1 + 25) / 2  # surface areas in mm2, voxel 5 x 1 x 1 mm
    lid = 29 * 29 * 1.0 + 4 * 29 * rim + 4 * corner
    walls = 7 * (4 * 29 * 5.0 + 4 * math.sqrt(5**2 + 5**2) / 2)
    lost = lid + 25 * 25 * 1.0
    expected = 1 - lost / (2 * lid + walls)
    assert normalized_surface_dice(truth, prediction, (5, 1, 1), 2) == pytest.approx(expected, abs=1e-12)


def test_a_distance_equal_to_the_tolerance_agrees() -> None:
    """Two parallel lines of pixels 2 apart: tolerance 2 takes all of them, anything less nothing."""
    truth = np.zeros((40, 12), bool)
    prediction = truth.copy()
    truth[:, 2:4] = prediction[:, 6:8] = True
    assert normalized_surface_dice(truth, prediction, (1, 1), 4) == 1
    assert normalized_surface_dice(truth, prediction, (1, 0.5), 2) == 1
    between = normalized_surface_dice(truth, prediction, (1, 1), 2)
    assert 0.4 < between < 0.6  # the facing sides alone
    assert normalized_surface_dice(truth, prediction, (1, 1), 1.99) == 0


def test_one_pixel_is_four_corners_and_one_voxel_eight() -> None:
    """The code's lowest bit is the last neighbour; a mask's edge is an edge though the array ends there."""
    assert neighbour_codes(np.ones((1, 1), bool)).tolist() == [[1, 2], [4, 8]]
    assert neighbour_codes(np.ones((1, 1, 1), bool)).ravel().tolist() == [1, 2, 4, 8, 16, 32, 64, 128]
    assert contour_lengths((1, 1))[[1, 2, 4, 8]].sum() == pytest.approx(2 * math.sqrt(2))
    assert surface_areas((1, 1, 1))[[1, 2, 4, 8, 16, 32, 64, 128]].sum() == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize(
    ("code", "area"),
    [
        (0b11110000, 1 * 3.0),  # the face across the first axis: 1 x 3 mm
        (0b11001100, 2 * 3.0),
        (0b10101010, 2 * 1.0),
        (0b00000011, math.hypot(3 * 1, 2 * 3) / 2),  # an edge along the third axis
        (0b10000001, 2 * math.sqrt(3**2 + 6**2 + 2**2) / 8),  # two far corners
    ],
)
def test_the_area_of_a_neighbourhood_follows_the_spacing(code: int, area: float) -> None:
    """Spacing 2, 1, 3 mm along the axes: faces of 3, 6 and 2 mm2. The complement has the same surface."""
    assert surface_areas((2, 1, 3))[code] == pytest.approx(area)
    assert surface_areas((2, 1, 3))[255 - code] == pytest.approx(area)


def test_all_areas_add_up_to_those_of_the_public_table() -> None:
    """Plain and code-weighted sums of surface-distance's table of normals at spacing 1, 2, 3."""
    areas = surface_areas((1, 2, 3))
    assert areas.sum() == pytest.approx(950.4895895094021)
    assert areas @ np.arange(256) == pytest.approx(121187.42266244878)


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_full_distance_maps(seed: int) -> None:
    """Blobs and dust, 2D and 3D, any spacing and tolerance: the same number as the slow way, ties included."""
    ndimage = pytest.importorskip("scipy.ndimage")
    random = np.random.default_rng(seed)
    ndim = 2 + seed % 2
    shape = random.integers(1, 25, ndim)
    spacing = tuple(random.choice([0.1, 0.3, 0.8, 1, 1.2, 3, 5], ndim).tolist())
    masks = [random.random(shape) > 0.93 for _ in range(2)]
    if seed % 4 < 2:
        masks = [ndimage.gaussian_filter(random.random(shape), 1.5) > 0.5 for _ in range(2)]
    for mask in masks:
        mask.flat[0] = True
    tolerance = float(random.choice([0.5, 1, 2, 3.7]))
    assert normalized_surface_dice(*masks, spacing, tolerance) == nsd_by_distance_maps(*masks, spacing, tolerance)
