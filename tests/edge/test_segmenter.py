"""Three lines of Python from an array to labels."""

from pathlib import Path

import numpy as np
import pytest

from edge import CaseError, Options, Segmenter, make_case


def test_an_image_in_three_lines(tiny_model: Path) -> None:
    """A grey image and a list of boxes as arrays; label k is the k-th box."""
    image = np.random.default_rng(0).integers(0, 256, (256, 256), dtype=np.uint8)
    segmenter = Segmenter(tiny_model)
    labels = segmenter.segment_arrays(image, np.array([[10, 20, 30, 40], [50, 60, 70, 80]]))
    expected = np.zeros((256, 256), np.uint8)
    expected[20:41, 10:31], expected[60:81, 50:71] = 1, 2
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_volume_in_three_lines(tiny_model: Path, backend: str) -> None:
    """Six columns make it 3D; the model's path may be a string; the last slice is included."""
    volume = np.random.default_rng(0).integers(0, 256, (4, 256, 256), dtype=np.uint8)
    segmenter = Segmenter(str(tiny_model), backend=backend, options=Options(method="fixed"))
    labels = segmenter.segment_arrays(volume, np.array([[10, 20, 1, 30, 40, 3]]))
    expected = np.zeros((4, 256, 256), np.uint8)
    expected[1:4, 20:41, 10:31] = 1
    assert np.array_equal(labels, expected)


def test_one_segmenter_serves_case_after_case(tiny_model: Path) -> None:
    """Nothing of a case is left for the next; the third answers as the first."""
    segmenter = Segmenter(tiny_model, threads=1)
    first = make_case("2DBox_US_1", np.full((256, 256, 3), 9, np.uint8), np.array([[1, 2, 3, 4]]))
    second = make_case("3DBox_CT_1", np.full((2, 100, 90), 9, np.uint8), np.array([[1, 2, 0, 60, 70, 1]]))
    labels = [segmenter.segment(case).labels for case in (first, second, first)]
    assert np.array_equal(labels[0], labels[2]) and labels[1].shape == (2, 100, 90)
    assert segmenter.engine.threads == 1


def test_arrays_that_do_not_fit_are_refused(tiny_model: Path) -> None:
    """With the case error a file would get."""
    with pytest.raises(CaseError, match="0 to 255"):
        Segmenter(tiny_model).segment_arrays(np.full((20, 20), 3000, np.int16), np.array([[1, 1, 5, 5]]))
