"""Moved boxes: by how much, the same every time, of the same case otherwise."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from edge.bench.noise import move_sides, moved_boxes, side_shifts
from edge.bench.run import JOB
from edge.data.case import read_case
from edge.data.formats.registry import read_input
from edge.data.prompting import Prompting, prompted
from edge.data.scan import Reading

SHAPE = (60, 100)  # H, W


def moved(box: list[float], shifts: list[list[float]], shape: tuple[int, ...] = SHAPE) -> list[float]:
    (found,) = move_sides(np.array([box], np.float64), np.array([shifts]), shape).tolist()
    return found


def test_a_side_moves_by_its_part_of_the_boxs_extent() -> None:
    """10 to 29 is 20 px wide, 20 to 59 is 40 px high: 0.1 of them is 2 and 4 px."""
    assert moved([10, 10, 29, 49], [[0.1, -0.1], [-0.1, 0.05]]) == [12, 6, 27, 51]


def test_of_a_volumes_box_only_x_and_y_move() -> None:
    """z 2 to 7 stays."""
    found = moved([10, 10, 2, 29, 49, 7], [[0.1, -0.1], [-0.1, 0.05]], (9, *SHAPE))
    assert found == [12, 6, 2, 27, 51, 7]


def test_a_side_beyond_the_image_ends_at_its_border() -> None:
    """x 0 to 99 in 100 px, y 0 to 59 in 60 px, 10 and 6 px outwards each."""
    assert moved([0, 0, 99, 59], [[-0.1, -0.1], [0.1, 0.1]]) == [0, 0, 99, 59]


def test_sides_that_pass_each_other_change_places() -> None:
    """A box of one pixel, 50 % to the right and to the left: 10.5 and 9.5."""
    assert moved([10, 10, 10, 10], [[0.5, 0], [-0.5, 0]]) == [9.5, 10, 10.5, 10]


def test_shifts_are_uniform_and_of_name_and_percentage() -> None:
    """4000 numbers in +- 0.05 use the whole range, and have the deviation of a uniform one, 0.1 / sqrt(12)."""
    shifts = side_shifts("2DBox_CT_A_1", 1000, 5)
    assert np.abs(shifts).max() <= 0.05 and shifts.min() < -0.049 and shifts.max() > 0.049
    assert abs(shifts.std() / (0.1 / 12**0.5) - 1) < 0.05
    assert np.array_equal(shifts, side_shifts("2DBox_CT_A_1", 1000, 5))
    assert not np.allclose(shifts, side_shifts("2DBox_CT_A_2", 1000, 5))
    assert not np.allclose(2 * shifts, side_shifts("2DBox_CT_A_1", 1000, 10))


@pytest.mark.parametrize("name", ["2DBox_CT_A_1", "3DBox_CT_A_1"])
def test_a_moved_case_is_the_same_but_for_its_boxes(tmp_path: Path, name: str) -> None:
    """Image, truth and spacing as they were; the file goes with the block, the original stays."""
    axes = int(name[0])
    image = np.random.default_rng(0).integers(0, 256, (60, 100, 3) if axes == 2 else (5, 60, 100), dtype=np.uint8)
    truth = np.zeros(image.shape[:axes], np.uint8)
    truth[..., 10:20, 10:30] = 1
    boxes = [[10, 10, 29, 19]] if axes == 2 else [[10, 10, 0, 29, 19, 4]]
    path = tmp_path / f"{name}.npz"
    np.savez(path, imgs=image, gts=truth, boxes=boxes, spacing=[0.5, 1, 2])
    with moved_boxes(path, 20, JOB) as (given, _):
        before, after = (read_case(file, with_truth=True) for file in (path, given))
    assert given.name == path.name and not given.exists() and path.exists()
    assert np.array_equal(before.image, after.image) and before.spacing_mm == after.spacing_mm
    assert before.truth is not None and after.truth is not None and np.array_equal(before.truth, after.truth)
    expected = move_sides(before.boxes, side_shifts(name, 1, 20), before.shape)
    assert np.array_equal(after.boxes, expected) and not np.array_equal(before.boxes, expected)


def test_without_noise_the_file_itself_is_given_and_so_is_one_that_cannot_be_read(tmp_path: Path) -> None:
    """Its reader then names what is wrong."""
    (tmp_path / "2DBox_CT_1.npz").touch()
    for percent in (0, 5):
        with moved_boxes(tmp_path / "2DBox_CT_1.npz", percent, JOB) as given:
            assert given == (tmp_path / "2DBox_CT_1.npz", JOB)


def test_a_moved_scan_keeps_what_was_said_of_it(tmp_path: Path) -> None:
    """Its boxes are those of the label map, moved; its window and modality are those asked for."""
    numbers = np.linspace(-200, 2000, 40 * 30 * 6).reshape(40, 30, 6).astype(np.int16)
    labels = np.zeros(numbers.shape, np.uint8)
    labels[8:20, 6:18, 1:5] = 3
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    for name, array in (("scan", numbers), ("labels", labels)):
        nibabel.nifti1.Nifti1Image(array, affine).to_filename(tmp_path / f"{name}.nii.gz")
    job = replace(JOB, reading=Reading("CT", "bone"), prompting=Prompting(boxes_from=tmp_path / "labels.nii.gz"))
    whole = prompted(read_input(tmp_path / "scan.nii.gz", job.reading), tmp_path / "scan.nii.gz", job.prompting)
    with moved_boxes(tmp_path / "scan.nii.gz", 10, job) as (given, given_job):
        moved_case = read_input(given, given_job.reading)
    assert moved_case.modality == "CT" and given_job.prompting == Prompting()
    assert np.array_equal(moved_case.image, whole.image) and len(whole.boxes) == 1
    assert np.array_equal(moved_case.boxes, move_sides(whole.boxes, side_shifts("scan", 1, 10), whole.shape))
    assert not np.array_equal(moved_case.boxes, whole.boxes)
