"""PNG and JPEG files as cases: decoded within bounds, boxes from a CSV file, labels as a PNG beside the archive."""

import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.data.formats.finding import find_inputs
from edge.data.picture import decode_picture, read_picture, read_rgb
from edge.data.prompting import prompted
from edge.errors import CaseError
from edge.predict import plan, predict_cases
from edge.segmenter import Segmenter
from tests.conftest import Samedge

SIDE = 256  # of the model frame: boxes come back to the pixel
IMAGE = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
BOXES = "x_min,y_min,x_max,y_max\n10,20,30,40\n100, 100, 110.0, 120\n"


def save(folder: Path, name: str, image: npt.NDArray = IMAGE, boxes: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / name), image[..., ::-1] if image.ndim == 3 else image)
    if boxes is not None:
        (folder / name).with_suffix(".csv").write_text(boxes)
    return folder / name


def labels_of(path: Path) -> npt.NDArray:
    with np.load(path) as file:
        return file["segs"]


def huge_png(height: int, width: int) -> bytes:
    """A file of 57 bytes that says it is this large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_a_picture_with_boxes_is_a_case(tmp_path: Path, tiny_model: Path, samedge: Samedge) -> None:
    """Through the command: the filled boxes in the archive and in a PNG, the same as an .npz case's; then skipped."""
    save(tmp_path / "in", "cell.png", boxes=BOXES)
    save(tmp_path / "in", "grey.JPG", IMAGE[..., 0], "1,2,3,4\n")
    np.savez(tmp_path / "in" / "2DBox_CT_1.npz", imgs=IMAGE, boxes=[[10, 20, 30, 40], [100, 100, 110, 120]])
    run = samedge("predict", tmp_path / "in", tmp_path / "out", "--model", tiny_model)
    assert run.returncode == 0, run.stderr
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[20:41, 10:31], expected[100:121, 100:111] = 1, 2
    for name in ("cell", "2DBox_CT_1"):
        assert np.array_equal(labels_of(tmp_path / "out" / f"{name}.npz"), expected)
    drawn = cv2.imread(str(tmp_path / "out" / "cell_labels.png"), cv2.IMREAD_UNCHANGED)
    assert drawn.dtype == np.uint8 and np.array_equal(drawn, expected)
    assert labels_of(tmp_path / "out" / "grey.npz").sum() == 9
    assert not (tmp_path / "out" / "2DBox_CT_1_labels.png").exists()
    again = samedge("predict", tmp_path / "in", tmp_path / "out", "--model", tmp_path / "no model")
    assert again.returncode == 0 and "3 were there already" in again.stderr


def test_a_model_without_prompts_needs_no_boxes(tmp_path: Path, tiny_model: Path) -> None:
    """And does not look at a CSV file of that name, whatever it holds."""
    segmenter = Segmenter(tiny_model)
    segmenter.engine.description = replace(segmenter.engine.description, prompt="none")
    path = save(tmp_path, "cell.jpg", IMAGE[:99], "perimeter;area\n")
    (found,) = predict_cases([path], tmp_path, lambda: segmenter)
    assert found.error is None and (labels_of(tmp_path / "cell.npz") == 1).all()
    assert cv2.imread(str(tmp_path / "cell_labels.png"), cv2.IMREAD_UNCHANGED).shape == (99, SIDE)


def test_a_picture_without_boxes_says_what_a_box_model_needs(tmp_path: Path, tiny_model: Path) -> None:
    """One line that names the file to write; the next picture is done."""
    paths = [save(tmp_path / "in", "a.png"), save(tmp_path / "in", "b.png", boxes="1,2,3,4")]
    found = list(predict_cases(paths, tmp_path, lambda: Segmenter(tiny_model)))
    assert found[0].error == "a: this model needs boxes; write a.csv beside it, lines x_min,y_min,x_max,y_max"
    assert found[1].error is None


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("1,2,3", "a.csv line 1 must be x_min,y_min,x_max,y_max, got 1,2,3"),
        ("x_min,y_min,x_max,y_max\n1,2,3,left\n", "a.csv line 2 must be x_min,y_min,x_max,y_max, got 1,2,3,left"),
        ("1,2,3,nan", "boxes must be finite"),
        ("900,900,950,950", "boxes row 0 .* lies far outside"),
        ("y_min,x_min,y_max\n1,2,3,4", "a.csv line 1 must be"),
        ("1,2,3,4\n" * (2**22 // 8 + 1), "a.csv is larger than 4 MiB"),
    ],
)
def test_boxes_that_cannot_be_are_named(tmp_path: Path, lines: str, says: str) -> None:
    """Case, file, line, what came, what was expected."""
    path = save(tmp_path, "a.png", boxes=lines)
    with pytest.raises(CaseError, match=f"^a: {says}"):
        prompted(read_picture(path), path)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfx_min;y_min;x_max;y_max\r\n1,5;2;3;4\r\n",
        b"1,5;2;3;4\n",
        "1,5\t2\t3\t4\r\n".encode("utf-16"),
        b"sep=;\nx_min;y_min;x_max;y_max\n1.5;2;3;4\n",
        b'"1.5", "2", "3", "4"\n',
    ],
)
def test_boxes_are_read_as_a_spreadsheet_saves_them(tmp_path: Path, content: bytes) -> None:
    """Semicolons or tabs, decimal commas, byte order mark, CRLF, UTF-16."""
    path = save(tmp_path, "a.png")
    path.with_suffix(".csv").write_bytes(content)
    assert prompted(read_picture(path), path).boxes.tolist() == [[1.5, 2, 3, 4]]


def test_an_empty_file_of_boxes_asks_for_nothing(tmp_path: Path) -> None:
    """That is not the same as no file; a byte order mark and empty lines are passed over."""
    path = save(tmp_path, "a.png", boxes="\n")
    assert prompted(read_picture(path), path).boxes.shape == (0, 4)
    path.with_suffix(".csv").write_bytes(b"\xef\xbb\xbf" + BOXES.encode())
    assert prompted(read_picture(path), path).boxes.tolist() == [[10, 20, 30, 40], [100, 100, 110, 120]]


def test_what_is_no_picture_or_too_large_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """A bomb of 57 bytes, a text under this name, nothing, a pipe, half a file."""
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(huge_png(2**15, 2**15))
    with pytest.raises(CaseError, match=r"bomb.png has 32768 x 32768 px, the limit is 268435456 px"):
        read_rgb(bomb)
    assert decode_picture(save(tmp_path, "deep.png", IMAGE.astype(np.uint16)), cv2.IMREAD_UNCHANGED).dtype == np.uint16
    jpeg = cv2.imencode(".jpg", IMAGE)[1].tobytes()
    contents = {
        "empty": b"", "half": jpeg[:200], "header": jpeg[:40],
        "text": b"hello",
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / f"{name}.jpg").write_bytes(content)
    os.mkfifo(tmp_path / "pipe.png")
    for name, says in (
        ("text.jpg", "is neither PNG nor JPEG"),
        ("empty.jpg", "is neither PNG nor JPEG"),
        ("header.jpg", "is neither PNG nor JPEG"),
        ("half.jpg", "is not a picture|cannot be read"),
        ("pipe.png", "is a folder or a device"),
        ("gone.png", "cannot be read"),
    ):
        with pytest.raises(CaseError, match=f"^{Path(name).stem}: .*{says}"):
            read_rgb(tmp_path / name)


def test_jpegs_of_every_kind_tell_their_size(tmp_path: Path) -> None:
    """Baseline, progressive, grey, with restart markers: read as OpenCV reads them."""
    for number, options in enumerate(([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 4])):
        for image in (IMAGE[:77], IMAGE[:77, :, 0]):
            path = tmp_path / f"{number}.jpg"
            cv2.imwrite(str(path), image, options)
            assert read_rgb(path).shape == (77, SIDE, 3)


def test_truths_and_views_of_cases_are_no_inputs(tmp_path: Path, tiny_model: Path) -> None:
    """`_gt.png`, and a picture named like an .npz; of two pictures with one name the .png has the output."""
    for name in ("a.png", "a_gt.png", "b.png", "c.png", "c.jpg"):
        save(tmp_path / "in", name)
    np.savez(tmp_path / "in" / "b.npz", imgs=IMAGE, boxes=[[1, 2, 3, 4]])
    assert [path.name for path in find_inputs(tmp_path / "in")] == ["a.png", "b.npz", "c.jpg", "c.png"]
    pending, _ = plan(tmp_path / "in", tmp_path / "out", overwrite=False)
    errors = [found.error for found in predict_cases(pending, tmp_path / "out", lambda: Segmenter(tiny_model))]
    assert errors[1] is None and errors[2] == "c: c.jpg and c.png would write the same output; rename one"
    assert errors[0] and errors[3] and errors[3].startswith("c: this model needs boxes")
