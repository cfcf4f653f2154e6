"""Scores of one label map: hand-worked answers, the official quirks, labels beyond a byte."""

import math

import numpy as np
import pytest

from edge.scoring.score import dice, mean_dice, score_case


def squares(*labels: int, dtype: type = np.uint8, shift: int = 0) -> np.ndarray:
    """An image with a 10 x 10 square per label, side by side, 5 px apart."""
    image = np.zeros((20, 15 * len(labels) + 20), dtype)
    for place, label in enumerate(labels):
        image[5:15, 15 * place + 5 + shift : 15 * place + 15 + shift] = label
    return image


def test_dice_of_a_half_shifted_square_is_a_half() -> None:
    """10 x 10 against the same 5 px aside: 2 x 50 / 200."""
    assert dice(squares(1) == 1, squares(1, shift=5) == 1) == 0.5
    assert math.isnan(dice(np.zeros((4, 4), bool), np.zeros((4, 4), bool)))


def test_mean_dice_is_over_the_labels_on_either_side() -> None:
    """Label 1 right, label 3 missed, label 2 on neither side, label 7 invented: (1 + 0 + 0) / 3."""
    truth, prediction = squares(1, 3, 0), squares(1, 0, 7)
    assert mean_dice(truth, prediction) == pytest.approx(1 / 3)
    assert mean_dice(truth, truth) == 1
    assert math.isnan(mean_dice(truth * 0, truth * 0))


def test_a_perfect_prediction_scores_one_in_all_three() -> None:
    """2D and 3D."""
    image = squares(1, 2, 3)
    for case in (
        score_case("2DBox_US_1", image, image),
        score_case("3DBox_CT_1", image[None].repeat(4, 0), image[None].repeat(4, 0), (5, 1, 1)),
    ):
        assert (case.dsc, case.nsd_official, case.nsd) == (1, 1, 1)
        assert [label.label for label in case.labels] == [1, 2, 3]


def test_a_label_on_neither_side_makes_the_official_dsc_nan_and_nsd_zero_but_is_left_out_of_nsd() -> None:
    """Labels 1 and 3 are perfect, 2 does not exist."""
    case = score_case("2DBox_X-Ray_1", squares(1, 3), squares(1, 3))
    assert math.isnan(case.dsc)
    assert (case.nsd_official, case.nsd) == (0, 1)


def test_a_label_the_truth_does_not_have_counts_in_nsd_alone() -> None:
    """The public program looks no further than the truth's highest label."""
    case = score_case("2DBox_US_1", squares(1, 0), squares(1, 2))
    assert (case.dsc, case.nsd_official, case.nsd) == (1, 1, 0.5)


def test_a_missed_label_counts_zero_everywhere() -> None:
    """Half of the objects found."""
    case = score_case("2DBox_US_1", squares(1, 2), squares(1, 0))
    assert (case.dsc, case.nsd_official, case.nsd) == (0.5, 0.5, 0.5)


def test_empty_truth_and_empty_prediction_is_nan_but_for_the_official_nsd() -> None:
    """The rule for nothing against nothing, and for something against nothing."""
    empty = np.zeros((20, 20), np.uint8)
    nothing = score_case("2DBox_US_1", empty, empty)
    assert math.isnan(nothing.dsc) and math.isnan(nothing.nsd) and nothing.nsd_official == 0
    invented = score_case("2DBox_US_1", empty, empty + 1)
    assert math.isnan(invented.dsc) and (invented.nsd, invented.nsd_official) == (0, 0)
    missed = score_case("2DBox_US_1", empty + 1, empty)
    assert (missed.dsc, missed.nsd_official, missed.nsd) == (0, 0, 0)


def test_official_nsd_is_zero_at_a_poor_dsc() -> None:
    """9 of 10 columns aside: dsc 0.1, contours still touch along the shared column and the sides."""
    case = score_case("2DBox_US_1", squares(1), squares(1, shift=9))
    assert case.dsc == pytest.approx(0.1)
    assert case.nsd_official == 0
    assert case.nsd > 0.2


def test_official_spacing_is_used_as_it_lies_in_the_file() -> None:
    """One slice of 5 mm off: file order (1, 1, 5) against (z, y, x) sees 1 mm; told otherwise it sees 5."""
    truth = np.zeros((9, 30, 30), np.uint8)
    prediction = truth.copy()
    truth[:8] = prediction[1:] = 1
    case = score_case("3DBox_CT_1", truth, prediction, (5, 1, 1))
    assert case.nsd_official == 1
    assert case.nsd == pytest.approx(0.727, abs=0.01)
    other = score_case("3DBox_CT_1", truth, prediction, (5, 1, 1), file_spacing=(5, 1, 1))
    assert other.nsd_official == other.nsd == case.nsd


def test_a_volume_without_spacing_is_scored_in_voxels_and_says_so() -> None:
    """Nothing is assumed in silence."""
    volume = np.ones((3, 8, 8), np.uint8)
    assert score_case("3DBox_CT_1", volume, volume, (5, 1, 1)).note is None
    assert "1 mm assumed" in (score_case("3DBox_CT_1", volume, volume).note or "")


def test_another_shape_scores_zero_and_says_which() -> None:
    """A transposed prediction is not broadcast, cropped or raised about."""
    case = score_case("2DBox_US_1", squares(1), squares(1).T)
    assert (case.dsc, case.nsd_official, case.nsd) == (0, 0, 0)
    assert case.error == "2DBox_US_1: segs must have the shape of gts, (20, 35), got (35, 20)"


def test_label_255_does_not_wrap_in_a_byte() -> None:
    """255 labels in uint8: all are scored, the last one too."""
    truth = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(4, 0).repeat(4, 1)
    case = score_case("2DBox_Microscopy_1", truth, truth)
    assert (case.dsc, case.nsd_official, case.nsd, len(case.labels)) == (1, 1, 1, 255)
    prediction = np.where(truth == 255, 0, truth)
    assert score_case("2DBox_Microscopy_1", truth, prediction).dsc == pytest.approx(254 / 255)


def test_more_than_255_labels_in_16_bits() -> None:
    """399 labels against the same without the last."""
    truth = np.arange(400, dtype=np.uint16).reshape(20, 20).repeat(4, 0).repeat(4, 1)
    prediction = np.where(truth == 399, 0, truth)
    case = score_case("2DBox_Microscopy_1", truth, prediction)
    for value in (case.dsc, case.nsd):
        assert value == pytest.approx(398 / 399)


def test_truth_and_prediction_may_differ_in_type() -> None:
    """uint8 against uint16, as truth of few objects against a prediction of many."""
    case = score_case("2DBox_US_1", squares(1, 2), squares(1, 2, dtype=np.uint16))
    assert (case.dsc, case.nsd) == (1, 1)


def test_each_label_is_cropped_to_both_sides() -> None:
    """A prediction far outside the truth's box still counts: 2 x 100 / 300, and its contour is lost."""
    truth, prediction = squares(1, 0, 0, 0), squares(1, 0, 0, 1)
    case = score_case("2DBox_US_1", truth, prediction)
    assert case.dsc == pytest.approx(2 / 3)
    assert case.nsd == pytest.approx(2 / 3)
