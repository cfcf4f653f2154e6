"""How sure the model is of a mask: by hand."""

import numpy as np

from edge.data.case import make_case
from edge.engines.model_folder import ModelDescription
from edge.masks.stability import mask_areas, stability
from edge.pipeline import Options, segment
from edge.views.view import View


def test_the_score_of_a_mask_by_hand() -> None:
    """Three of 8 x 4 logits are above 1, six above -1; padding does not count, and an area is in px of the image."""
    logits = np.full((8, 8), 9, np.float32)
    logits[:4] = -1
    logits[0, :6] = [2, 1.5, 1.001, 1, 0, -0.5]
    areas = mask_areas(logits, View.letterbox(4, 8, size=8))
    assert areas.tolist() == [3, 6] and stability(areas) == 0.5
    assert mask_areas(logits, View.letterbox(8, 16, size=8)).tolist() == [12, 24]


def test_slices_add_up_and_nothing_scores_0() -> None:
    """Over a volume it is the IoU of the two volumes, whatever each slice has."""
    assert stability(np.array([1.0, 4.0]) + np.array([5.0, 6.0])) == 0.6
    assert stability(np.zeros(2)) == 0 and stability(np.array([0.0, 7.0])) == 0


class Unsure:
    """Of the first box 2 of 4 px are sure on one slice and 1 of 6 on the other; the second finds nothing."""

    description = ModelDescription("unsure", 256, (1, 1, 1), {}, {})
    backend, precision, threads = "none", "f32", 1

    def __init__(self) -> None:
        self.slices = [(2, 4), (1, 6)]

    def prepare(self, batches: dict[int, int]) -> None:
        pass

    def encode(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), 1, 1, 1), np.float32)

    def decode(self, embedding: np.ndarray, boxes: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
        logits = np.full((len(boxes), 256, 256), -5, np.float32)
        sure, all_of_it = self.slices.pop()
        logits[0, 20, :all_of_it], logits[0, 20, :sure] = -0.5, 3
        return logits


def test_a_case_says_how_sure_each_box_is_over_all_of_its_slices() -> None:
    """3 of 10 px, in the order of the boxes; nothing found is 0."""
    boxes = np.array([[0, 0, 0, 99, 99, 1], [120, 120, 0, 200, 200, 1]])
    case = make_case("3DBox_CT_1", np.random.default_rng(0).integers(0, 256, (2, 256, 256), np.uint8), boxes)
    assert segment(case, Unsure(), Options(method="fixed")).stability == (0.3, 0.0)
