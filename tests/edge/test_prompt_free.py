"""Models that take no prompt, and the normalisations that are not the baseline's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.data.case import make_case
from edge.engines.runtime import load_engine
from edge.pipeline import segment
from edge.views.prepare import prepare


def test_a_model_without_prompts_answers_once_for_the_whole(tiny_model: Path) -> None:
    """The box filler, told that everything is its box: label 1 everywhere, whatever boxes the case has or lacks."""
    engine = load_engine(tiny_model)
    engine.description = replace(engine.description, prompt="none")
    image = np.zeros((256, 256, 3), np.uint8)
    for boxes in (np.zeros((0, 4)), np.array([[5, 5, 9, 9], [1, 1, 2, 2]])):
        found = segment(make_case("2DBox_Microscopy_x", image, boxes), engine)
        assert (found.labels == 1).all() and found.boxes == 1
    volume = segment(make_case("3DBox_MR_x", np.zeros((3, 256, 256), np.uint8), np.array([[5, 5, 1, 9, 9, 1]])), engine)
    assert volume.labels.shape == (3, 256, 256) and (volume.labels == 1).all() and volume.slices == 3


def test_sams_colours_are_taken_away_and_padding_is_zero() -> None:
    """(200 - 123.675) / 58.395 = 1.3070 of red and so on; a grey slice is three equal channels first."""
    image = np.full((2, 4, 3), (200, 100, 50), np.uint8)
    prepared = prepare(image, 4, "sam")
    assert prepared[:, 0, 0] == pytest.approx([1.30704, -0.28501, -0.93298], abs=1e-4)
    assert not prepared[:, 2:].any()
    assert np.array_equal(prepare(image[..., 0], 4, "sam"), prepare(np.repeat(image[..., :1], 3, -1), 4, "sam"))


def test_z_scores_do_not_know_the_scale() -> None:
    """Values 0 and 10 half each: -1 and 1; the same of any multiple, of floats, and shifted."""
    image = np.array([[0, 10], [10, 0]], np.uint8)
    expected = np.array([[-1, 1], [1, -1]], np.float32)
    for values in (image, image * 7, image.astype(np.float32) / 3 - 200):
        assert prepare(values, 2, "z-score")[1] == pytest.approx(expected, abs=1e-4)
    assert not prepare(np.full((2, 2), 9, np.uint8), 2, "z-score").any()
