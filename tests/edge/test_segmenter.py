"""Three lines of Python from an array to labels."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge import CaseError, ModelError, Options, Segmenter, make_case
from edge.engines.model_folder import DEFAULT_MODEL


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


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_model_that_is_replaced_while_it_is_used_is_refused(tmp_path: Path, backend: str) -> None:
    """Graphs are read when a box first needs them: other weights give other masks, and are never kept for the next."""
    model, image = tmp_path / "model", np.random.default_rng(0).integers(0, 255, (600, 600, 3), np.uint8)
    shutil.copytree(DEFAULT_MODEL, model)
    segmenter = Segmenter(model, backend=backend, cache=str(tmp_path / "cache"), precision="f32")
    segmenter.segment_arrays(image, [[10, 10, 40, 40]])
    weights = (model / "encoder.bin").read_bytes()
    (model / "encoder.bin").write_bytes(weights)  # written again, but the same
    segmenter.segment_arrays(image, [[10, 10, 90, 90]])
    (model / "README.md").unlink()  # nor what this engine does not read
    (model / "encoder_int8.bin").unlink()
    kept = sorted(path.name for path in (tmp_path / "cache").glob("*"))
    (model / "encoder.bin").write_bytes(weights[:4000] + bytes(4000) + weights[8000:])
    with pytest.raises(ModelError, match=r"encoder\.bin: was changed"):
        segmenter.segment_arrays(image, [[10, 10, 500, 500]])
    assert [name for name in sorted(path.name for path in (tmp_path / "cache").glob("*")) if name not in kept] == []


def test_a_relative_model_stays_the_same_wherever_the_process_goes(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs are read later."""
    monkeypatch.chdir(tiny_model.parent)
    segmenter = Segmenter(tiny_model.name, cache="kept")
    monkeypatch.chdir(tmp_path)
    labels = segmenter.segment_arrays(np.arange(64, dtype=np.uint8).reshape(8, 8), [[2, 2, 5, 5]])
    assert labels.any() and not list(tmp_path.iterdir())


def test_a_first_case_without_boxes_is_empty_whatever_the_method() -> None:
    """And the next one is segmented, in whole slices."""
    segmenter, image = Segmenter(DEFAULT_MODEL, options=Options(method="baseline")), np.arange(64, dtype=np.uint8)
    assert not segmenter.segment_arrays(image.reshape(8, 8), np.zeros((0, 4))).any()
    assert segmenter.segment_arrays(image.reshape(8, 8), [[2, 2, 5, 5]]).any()
