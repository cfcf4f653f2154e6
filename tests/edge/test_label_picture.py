"""Labels drawn as pictures: each way of drawing 0, 1, 2, 3 gives 0, 1, 2, 3."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.data.check import check_case
from edge.data.label_picture import read_label_picture
from edge.errors import CaseError

GREY, PALETTE = 0, 3
LABELS = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) // 12  # 0 to 3


def png(labels: npt.NDArray[np.uint8], depth: int, colour: int, *, transparent: bool = False) -> bytes:
    """A PNG by the book: bits packed from the left, filter 0; a palette of red, green, blue and grey."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    bits = np.unpackbits(labels[..., None], axis=-1)[..., 8 - depth :].reshape(len(labels), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    palette = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])) if colour == PALETTE else b""
    clear = chunk(b"tRNS", bytes([0, 128] if colour == PALETTE else [0, 0])) if transparent else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + clear + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_tiff_whose_zero_is_white_holds_its_numbers(tmp_path: Path, kind: type[np.generic]) -> None:
    """As ImageJ saves masks whose table is turned around: tag 262 is 0, and the numbers stay."""
    cv2.imwrite(str(tmp_path / "a.tif"), LABELS.astype(kind), [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    content = (tmp_path / "a.tif").read_bytes()
    entry = struct.pack("<HHIHH", 262, 3, 1, 1, 0)
    assert content.count(entry) == 1
    (tmp_path / "b.tif").write_bytes(content.replace(entry, struct.pack("<HHIHH", 262, 3, 1, 0, 0)))
    for name in ("a.tif", "b.tif"):
        assert np.array_equal(read_label_picture(tmp_path / name), LABELS)


def test_a_tiff_of_one_bit_whose_zero_is_white_is_what_is_shown(tmp_path: Path) -> None:
    """By any library, so the object is not zero."""
    image_module = pytest.importorskip("PIL.Image")
    mask = np.zeros((40, 32), np.uint8)
    mask[5:15, 6:18] = 255
    image_module.fromarray(mask).convert("1").save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert np.array_equal(read_label_picture(tmp_path / "a.tif"), mask)


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("colour", [GREY, PALETTE])
def test_palettes_and_greys_of_any_depth_hold_their_numbers(
    tmp_path: Path, colour: int, depth: int, transparent: bool
) -> None:
    """Neither colours nor 17 for 1; of one bit 0 and 1. The check finds nothing."""
    labels = LABELS % 2 if depth == 1 else LABELS
    (tmp_path / "US_1_gt.png").write_bytes(png(labels, depth, colour, transparent=transparent))
    assert np.array_equal(read_label_picture(tmp_path / "US_1_gt.png"), labels)
    cv2.imwrite(str(tmp_path / "US_1.png"), LABELS * 60)
    assert check_case(tmp_path / "US_1.png") == []


@pytest.mark.parametrize("colour", [GREY, PALETTE])
def test_labels_are_turned_as_the_file_says(tmp_path: Path, colour: int) -> None:
    """By an EXIF orientation of 6, a quarter turn to the right, which turns images too."""
    exif = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x112, 3, 1, 6, 0)
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    upright = png(LABELS, 8, colour)
    after_header = 8 + 25
    (tmp_path / "a_gt.png").write_bytes(upright[:after_header] + chunk + upright[after_header:])
    assert np.array_equal(read_label_picture(tmp_path / "a_gt.png"), np.rot90(LABELS, -1))


@pytest.mark.parametrize("kind", ["16 bit", "rgb", "rgba", "tif"])
def test_other_ways_of_drawing_numbers_are_read(tmp_path: Path, kind: str) -> None:
    """Sixteen bits, the same number in all three colours, with and without alpha, TIFF."""
    drawn = {
        "16 bit": LABELS.astype(np.uint16) * 300,
        "rgb": np.repeat(LABELS[..., None], 3, -1),
        "rgba": np.dstack([LABELS] * 3 + [np.full_like(LABELS, 255)]),
    }.get(kind, LABELS)
    path = tmp_path / ("a.tif" if kind == "tif" else "a_gt.png")
    cv2.imwrite(str(path), drawn)
    assert np.array_equal(read_label_picture(path), LABELS.astype(np.uint16) * 300 if kind == "16 bit" else LABELS)


def test_what_holds_no_numbers_is_named(tmp_path: Path) -> None:
    """Colours, a JPEG under another name, half a palette PNG, a header alone."""
    cv2.imwrite(str(tmp_path / "colour_gt.png"), np.random.default_rng(0).integers(0, 255, (6, 8, 3)))
    (tmp_path / "jpeg_gt.png").write_bytes(cv2.imencode(".jpg", LABELS)[1].tobytes())
    whole = png(LABELS, 4, PALETTE)
    (tmp_path / "half_gt.png").write_bytes(whole[: whole.index(b"IDAT")])
    (tmp_path / "header_gt.png").write_bytes(whole[:30])
    for name, says in {
        "colour": "is coloured; save its labels as numbers",
        "jpeg": "is a JPEG, which changes labels; save them as PNG",
        "half": "is not a picture",
        "header": "is not a picture",
    }.items():
        with pytest.raises(CaseError, match=f"^{name}_gt: {name}_gt.png {says}"):
            read_label_picture(tmp_path / f"{name}_gt.png")
    cv2.imwrite(str(tmp_path / "colour.png"), LABELS)
    (finding,) = [finding for finding in check_case(tmp_path / "colour.png") if finding.key == "gts"]
    assert finding.severity == "error" and finding.message.startswith("colour_gt.png is coloured")
