"""A folder of cases to a folder of label maps: every form of case, and what is done when."""

import json
import shutil
from pathlib import Path
from threading import Event

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.data.case import Case
from edge.data.scan import Reading
from edge.engines.model_folder import DEFAULT_MODEL, DESCRIPTION
from edge.errors import ModelError, RunError
from edge.pipeline import Options, Segmentation
from edge.predict import plan, predict_cases
from edge.segmenter import Segmenter

SIDE = 256  # of the model frame: boxes come back to the pixel
IMAGE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
VOLUME = np.ascontiguousarray(IMAGE.transpose(2, 0, 1))


def write(folder: Path, name: str, image: npt.NDArray, boxes: npt.ArrayLike) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / f"{name}.npz", imgs=image, boxes=boxes)
    return folder / f"{name}.npz"


def segs(path: Path) -> npt.NDArray:
    with np.load(path) as file:
        assert list(file) == ["segs"]
        return file["segs"]


def predicted(segmenter: Segmenter, path: Path) -> npt.NDArray:
    (prediction,) = predict_cases([path], path.parent.parent, lambda: segmenter)
    assert prediction.error is None
    return segs(path.parent.parent / path.name)


@pytest.fixture(scope="module")
def segmenter(tiny_model: Path) -> Segmenter:
    return Segmenter(tiny_model, threads=1)


@pytest.mark.parametrize("dtype", ["u2", ">u2", "i8", "f4", "f8"])
def test_boxes_of_every_type_give_the_same_labels(tmp_path: Path, segmenter: Segmenter, dtype: str) -> None:
    """Box (10, 20, 30, 40) fills columns 10 to 30 and rows 20 to 40, ends included."""
    path = write(tmp_path / "in", "2DBox_CT_1", IMAGE, np.array([[10, 20, 30, 40]], dtype))
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[20:41, 10:31] = 1
    labels = predicted(segmenter, path)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize(
    ("boxes", "rows", "columns"),
    [
        ([[10.5, 20.25, 30.5, 40.75]], slice(21, 41), slice(11, 31)),  # pixels 11 to 30 and 21 to 40 lie inside
        ([[250, 250, SIDE, SIDE]], slice(250, SIDE), slice(250, SIDE)),  # to the border, x_max = W
        ([[-9, -9, 5, 5]], slice(0, 6), slice(0, 6)),  # over the border
        ([[7, 8, 7, 8]], slice(8, 9), slice(7, 8)),  # one pixel
        ([7, 8, 7, 8], slice(8, 9), slice(7, 8)),  # no row axis
        (np.zeros((0, 4)), slice(0), slice(0)),
        (np.zeros((0, 6)), slice(0), slice(0)),
        ([], slice(0), slice(0)),
    ],
)
def test_boxes_in_every_form_fill_what_they_say(
    tmp_path: Path, segmenter: Segmenter, boxes: npt.ArrayLike, rows: slice, columns: slice
) -> None:
    """Worked out by hand; no boxes give an empty label map."""
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[rows, columns] = 1
    assert np.array_equal(predicted(segmenter, write(tmp_path / "in", "2DBox_CT_1", IMAGE, boxes)), expected)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1, 3), np.uint8),
        IMAGE[:1],
        IMAGE[:, :1],
        IMAGE[:2, :100],
        IMAGE[..., 0],
        IMAGE[..., :1],
        np.full((64, 32, 3), 9, np.uint8),
        np.asfortranarray(IMAGE[:100]),
        IMAGE[:100].astype(">u2"),
        IMAGE[:100].astype(np.float64),
        np.tile(IMAGE, (3, 2, 1)),
    ],
    ids=lambda image: f"{image.shape} {image.dtype.str}",
)
def test_images_of_every_form_go_through(tmp_path: Path, segmenter: Segmenter, image: npt.NDArray) -> None:
    """A box over the whole image, x_max = W, labels every pixel."""
    height, width = image.shape[:2]
    labels = predicted(segmenter, write(tmp_path / "in", "2DBox_CT_1", image, [[0, 0, width, height]]))
    assert labels.shape == (height, width)
    assert np.all(labels == 1)


def test_300_boxes_need_uint16_and_keep_their_order(tmp_path: Path, segmenter: Segmenter) -> None:
    """Box k on its own two pixels; as uint8, label 256 would be background."""
    rows, columns = np.divmod(np.arange(300), 20)
    boxes = np.stack([columns * 8, rows * 8, columns * 8 + 1, rows * 8], axis=1)
    labels = predicted(segmenter, write(tmp_path / "in", "2DBox_CT_1", IMAGE, boxes))
    assert labels.dtype == np.uint16
    assert np.array_equal(labels[rows * 8, columns * 8], np.arange(1, 301))
    assert np.count_nonzero(labels) == 600


@pytest.mark.parametrize("shape", [(3, SIDE, SIDE), (3, SIDE, SIDE, 1)])
def test_volumes_include_both_end_slices(tmp_path: Path, tiny_model: Path, shape: tuple[int, ...]) -> None:
    """Box 1 lives on slices 0 to 2, box 2 on slice 2 alone; `fixed` keeps their extent."""
    boxes = [[10, 20, 0, 30, 40, 2], [100, 100, 2, 110, 110, 2]]
    path = write(tmp_path / "in", "3DBox_CT_1", VOLUME.reshape(shape), boxes)
    expected = np.zeros((3, SIDE, SIDE), np.uint8)
    expected[:, 20:41, 10:31] = 1
    expected[2, 100:111, 100:111] = 2
    fixed = Segmenter(tiny_model, threads=1, options=Options(method="fixed"))
    assert np.array_equal(predicted(fixed, path), expected)


@pytest.fixture(scope="module", params=["box filler", "default model"])
def any_model(request: pytest.FixtureRequest, tiny_model: Path) -> Path:
    if request.param == "box filler":
        return tiny_model
    if not (DEFAULT_MODEL / "model.json").is_file():
        pytest.skip("no default model in this checkout")
    return DEFAULT_MODEL


def test_threads_and_blocks_and_runs_give_identical_bytes(tmp_path: Path, any_model: Path) -> None:
    """An image with overlapping boxes and a volume; 1 or 2 threads, 1, 3 or 8 boxes at once, 8 twice."""
    random = np.random.default_rng(1)
    low = random.integers(0, 200, (9, 2))
    image = cv2.GaussianBlur(random.integers(0, 256, (301, 257, 3), dtype=np.uint8), (0, 0), 5)
    boxes = np.concatenate([low, low + random.integers(20, 44, (9, 2))], axis=1)
    paths = [
        write(tmp_path / "in", "2DBox_CT_1", image, boxes),
        write(tmp_path / "in", "3DBox_CT_1", image.transpose(2, 0, 1), [[9, 9, 0, 99, 99, 2], [50, 60, 1, 150, 99, 2]]),
    ]
    written = set()
    for threads, blocks in ((1, (8, 1)), (2, (8, 3, 8))):
        segmenter = Segmenter(any_model, threads=threads)
        for run, block in enumerate(blocks):
            segmenter.options = Options(block=block)
            outputs = tmp_path / f"{threads} {run}"
            outputs.mkdir()
            assert [p.error for p in predict_cases(paths, outputs, lambda one=segmenter: one)] == [None, None]
            written.add(tuple((outputs / path.name).read_bytes() for path in paths))
    assert len(written) == 1


class FailingSegmenter:
    """Stands for a machine that runs out of memory, and for a bug."""

    def segment(self, case: Case) -> Segmentation:
        if case.name.endswith("memory"):
            raise MemoryError
        if case.name.endswith("bug"):
            raise ZeroDivisionError("division by zero\nand more")
        return Segmentation(case.name, np.zeros(case.shape, np.uint8), 1, 1)


def test_memory_errors_and_bugs_cost_one_case_only(tmp_path: Path) -> None:
    """Each becomes one line that names its case."""
    paths = [write(tmp_path, f"2DBox_CT_{name}", IMAGE, [[0, 0, 9, 9]]) for name in ("bug", "fine", "memory")]
    (tmp_path / "out").mkdir()
    done = predict_cases(paths, tmp_path / "out", FailingSegmenter)  # type: ignore[arg-type]
    assert [prediction.error for prediction in done] == [
        "2DBox_CT_bug: unexpected error, please report it (ZeroDivisionError: division by zero)",
        None,
        "2DBox_CT_memory: not enough memory for this case",
    ]


def test_the_model_is_loaded_while_the_first_case_is_read(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading waits here for the loading to begin; where nothing can be read, a model that does not load is fine."""
    path = write(tmp_path / "in", "2DBox_CT_1", IMAGE, [[0, 0, 9, 9]])
    from edge import predict

    loading = Event()
    original = predict.read_input
    monkeypatch.setattr(predict, "read_input", lambda *given: original(*given) if loading.wait(10) else None)

    def load() -> Segmenter:
        loading.set()
        return segmenter

    (done,) = predict_cases([path], tmp_path, load)
    assert (done.status, done.waited_s < 10) == ("done", True)
    path.write_bytes(b"")
    (failed,) = predict_cases([path], tmp_path, lambda: Segmenter(tmp_path / "no model"))
    assert failed.error is not None and "not a readable .npz archive" in failed.error


def test_memory_that_runs_out_while_reading_costs_one_case_only(
    tmp_path: Path, segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file is too large for the machine, the second is read."""
    paths = [write(tmp_path / "in", f"2DBox_CT_{number}", IMAGE, [[0, 0, 9, 9]]) for number in (1, 2)]
    from edge import predict

    def read(path: Path, reading: Reading) -> Case:
        if path == paths[0]:
            raise MemoryError
        return original(path, reading)

    original = predict.read_input
    monkeypatch.setattr(predict, "read_input", read)
    first, second = predict_cases(paths, tmp_path, lambda: segmenter)
    assert first.error == "2DBox_CT_1: not enough memory for this case"
    assert second.error is None


def test_outputs_never_overwrite_inputs(tmp_path: Path) -> None:
    """Not under another spelling of the path either, and not for a single file."""
    path = write(tmp_path / "in", "2DBox_CT_1", IMAGE, [[0, 0, 9, 9]])
    for inputs, outputs in ((tmp_path / "in", tmp_path / "x" / ".." / "in"), (path, tmp_path / "in")):
        with pytest.raises(RunError, match="outputs would overwrite the inputs; choose another folder"):
            plan(inputs, outputs, overwrite=True)


def test_what_is_there_is_not_done_again_unless_told(tmp_path: Path) -> None:
    """Pending and done, in name order."""
    paths = [write(tmp_path / "in", f"2DBox_CT_{number}", IMAGE, []) for number in (1, 2, 3)]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "2DBox_CT_2.npz").touch()
    assert plan(tmp_path / "in", tmp_path / "out", overwrite=False) == ([paths[0], paths[2]], [paths[1]])
    assert plan(tmp_path / "in", tmp_path / "out", overwrite=True) == (paths, [])


def test_files_of_one_output_fail_in_every_run(tmp_path: Path, segmenter: Segmenter) -> None:
    """a.npz has the right to its output, a.NPZ is refused, also once the output is there."""
    path = write(tmp_path / "in", "2DBox_CT_1", IMAGE, [[0, 0, 9, 9]])
    path.with_suffix(".NPZ").write_bytes(path.read_bytes())
    for expected in (["failed", "done"], ["failed"]):
        pending, _ = plan(tmp_path / "in", tmp_path / "out", overwrite=False)
        assert [p.status for p in predict_cases(pending, tmp_path / "out", lambda: segmenter)] == expected


def test_a_model_whose_graphs_do_not_fit_ends_the_run(tiny_model: Path, tmp_path: Path) -> None:
    """It is no fault of the first case, and the second would have it, too: one error, which names the file."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    content = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps({**content, "embedding_shape": [256, 64, 64]}))
    paths = [write(tmp_path / "in", f"2DBox_CT_{number}", IMAGE, [[1, 1, 9, 9]]) for number in (1, 2)]
    with pytest.raises(ModelError, match=r"encoder\.xml: embedding has shape"):
        list(predict_cases(paths, tmp_path, lambda: Segmenter(folder, threads=1)))
