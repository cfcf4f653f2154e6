"""Numbers of a label map: which are labels as they stand, which are read in their order, what is said of them."""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.data.case import read_case
from edge.data.check import check_case
from edge.data.labels import number_by_box, numbers_in, renumber
from edge.scoring.evaluate import evaluate
from tests.conftest import Samedge

DISC = np.zeros((60, 80), np.uint8)
cv2.circle(DISC, (40, 30), 12, 1, -1)
SHIFTED = np.roll(DISC, 2, axis=1)
BOX = np.array([[28, 18, 52, 42]])


@pytest.mark.parametrize(
    ("drawn", "boxes", "read", "told"),
    [
        ([0, 1, 2], 2, [0, 1, 2], None),
        ([0, 1, 3], 3, [0, 1, 3], None),
        ([0, 3, 3], 3, [0, 3, 3], None),
        ([0, 255, 255], 1, [0, 1, 1], "is drawn with 255, read as 1: label k is of box k"),
        ([0, 9, 2], 2, [0, 2, 1], "is drawn with 2, 9, read as 1 to 2: label k is of box k"),
        ([0, 1, 255], 1, [0, 1, 255], "is drawn with 1, 255, expected 1: label k is of box k"),
        ([0, 0, 255], 2, [0, 0, 255], "is drawn with 255, expected 1 to 2: label k is of box k"),
        ([0, 0, 255], 0, [0, 0, 255], None),
        ([0, 0, 0], 2, [0, 0, 0], None),
    ],
)
@pytest.mark.parametrize("shape", [(1, 3), (3, 1, 1)])
def test_numbers_are_read_by_the_boxes(
    drawn: list[int], boxes: int, read: list[int], told: str | None, shape: tuple[int, ...]
) -> None:
    """As they stand where none is above the number of boxes; in their order where there are as many as boxes."""
    labels = np.array(drawn, np.uint8).reshape(shape)
    found, text = number_by_box(labels, boxes)
    assert (found.ravel().tolist(), found.dtype, found.shape, text) == (read, np.uint8, shape, told)


def test_labels_are_numbered_in_their_order() -> None:
    """The largest number there can be; nothing; already so."""
    labels = np.array([[0, 65535, 7]], np.uint16)
    assert numbers_in(labels).tolist() == [7, 65535]
    assert renumber(labels).tolist() == [[0, 2, 1]]
    assert renumber(np.zeros((2, 2), np.uint8)).max() == 0
    assert renumber(DISC) is DISC


def save(folder: Path, truth: npt.NDArray, prediction: npt.NDArray, **more: npt.NDArray) -> tuple[Path, Path]:
    for kind in ("segs", "truths"):
        (folder / kind).mkdir(exist_ok=True)
    np.savez(folder / "truths" / "2DBox_US_1.npz", gts=truth, **more)
    np.savez(folder / "segs" / "2DBox_US_1.npz", segs=prediction)
    return folder / "segs", folder / "truths"


@pytest.mark.parametrize("number", [2, 255])
def test_a_truth_of_one_box_is_one_object_whatever_it_is_drawn_with(tmp_path: Path, number: int) -> None:
    """evaluate gives the scores of the truth drawn with 1, and says how it read it."""
    (right,) = evaluate(*save(tmp_path, DISC, SHIFTED, boxes=BOX)).cases
    (found,) = evaluate(*save(tmp_path, DISC * np.uint8(number), SHIFTED, boxes=BOX)).cases
    assert 0.8 < right.dsc < 1 and right.note is None
    assert (found.dsc, found.nsd, found.nsd_official) == (right.dsc, right.nsd, right.nsd_official)
    assert found.note == f"gts is drawn with {number}, read as 1: label k is of box k"


def test_a_truth_without_boxes_that_cannot_be_scored_says_why(tmp_path: Path) -> None:
    """What was found and what was expected; nothing in common with the prediction; nothing at all."""
    (found,) = evaluate(*save(tmp_path, DISC * np.uint8(255), SHIFTED)).cases
    assert found.note is not None and found.note.startswith("gts holds 255, expected 1 to the number of boxes; no DSC")
    assert "gts holds 255, segs 1: no label in common" in found.note
    (found,) = evaluate(*save(tmp_path, DISC, SHIFTED * np.uint8(255))).cases
    assert found.note == "gts holds 1, segs 255: no label in common"
    (found,) = evaluate(*save(tmp_path, DISC * np.uint8(0), SHIFTED)).cases
    assert found.note == "gts holds no object"
    (found,) = evaluate(*save(tmp_path, DISC, SHIFTED)).cases
    assert found.note is None


def test_numbers_that_do_not_fit_the_boxes_are_told(tmp_path: Path) -> None:
    """Two boxes, one mask of 0 and 255."""
    (found,) = evaluate(*save(tmp_path, DISC * np.uint8(255), SHIFTED, boxes=np.repeat(BOX, 2, axis=0))).cases
    assert found.note is not None and found.note.startswith("gts is drawn with 255, expected 1 to 2: label k is of box")


def test_bench_and_check_read_the_same_objects(tmp_path: Path, samedge: Samedge) -> None:
    """A case drawn 0/255: its DSC in `bench` is that of the case drawn 0/1, and `cases check` says how it is read."""
    image = np.repeat((60 + 120 * DISC)[..., None], 3, axis=-1)
    paths = [tmp_path / f"2DBox_US_{number}.npz" for number in (1, 255)]
    for path, number in zip(paths, (1, 255), strict=True):
        np.savez(path, imgs=image, boxes=BOX, gts=DISC * np.uint8(number))
    run = samedge("bench", tmp_path, "--json", "-", "-q")
    scores = [(case["dsc"], case["nsd"], case["nsd_official"]) for case in json.loads(run.stdout)["cases"]]
    assert scores[0] == scores[1] and scores[0][0] > 0.8
    truth = read_case(paths[1], with_truth=True).truth
    assert truth is not None and np.array_equal(truth, DISC)
    (told,) = check_case(paths[1])
    assert (told.severity, told.message) == ("warning", "gts is drawn with 255, read as 1: label k is of box k")
