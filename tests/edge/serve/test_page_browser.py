"""The page in headless Chromium, as a user has it: 1366 x 768, mouse and keys. Run by make browser-test."""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

from edge.data.formats.registry import read_input, read_label_map
from edge.segmenter import Segmenter
from edge.serve import niivue
from edge.serve.leases import Limits
from tests.edge.dicom_files import write_series
from tests.edge.serve.conftest import KEY, Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

pytestmark = pytest.mark.browser

NAME = "MR_sct_t2_image.nii.gz"  # 52 x 60 x 55 voxels of a neck
THIN = "MR_thin.nii.gz"  # 512 x 512 x 20 voxels: its slices are stacked on the page, in other sizes
CORD, ARTERY = (110, 330, 225, 415), (40, 262, 98, 318)  # on the axial slice in the middle, px of the page
PATIENCE_MS = 60_000  # drawn by the CPU, beside whatever else it does


@pytest.fixture(scope="module")
def offering(shipped: Segmenter, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one real case, with the model that ships."""
    if not niivue.is_there():
        pytest.skip(f"needs NiiVue, which is not there: {niivue.HOW}")
    folder = tmp_path_factory.mktemp("cases")
    shutil.copy(shared / "data" / "nifti" / NAME, folder)
    disc = np.hypot(*np.mgrid[-256:256, -256:256]) < 150
    image = nibabel.Nifti1Image((disc[..., None] * np.ones(20)).astype(np.uint8), np.diag([0.7, 0.7, 2.5, 1]))
    nibabel.save(image, folder / THIN)
    with serving(shipped, folder=folder, limits=Limits(liveness_s=600)) as running:  # on a busy machine pages are slow
        yield running


@pytest.fixture
def page(chromium: "Browser", offering: Server) -> "Iterator[Page]":
    """The page, with the case open; whatever it asks of others, or reports as an error, fails the test.

    Chromium reports what the server refuses, too: that is for the test to look at.
    """
    wrong: list[str] = []
    page = chromium.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(VIEWER)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if _is_wrong(message) else None)
    page.on("request", lambda request: None if _is_own(request.url, offering) else wrong.append(request.url))
    page.goto(f"{offering.url}/#key={KEY}")
    expect_message(page, "2 cases in the folder")
    page.select_option("#case", NAME)
    expect_message(page, "52 × 60 × 55 voxels, MR")
    yield page
    assert wrong == []
    page.close()


def _is_wrong(message: "ConsoleMessage") -> bool:
    return message.type == "error" and "status of 400" not in message.text


def _is_own(url: str, server: Server) -> bool:
    return url.startswith((f"{server.url}/", "data:", f"blob:{server.url}/"))


def expect_message(page: "Page", words: str) -> None:
    """Wait until the page says so."""
    from playwright.sync_api import expect

    expect(page.locator("#message")).to_have_text(re.compile(words), timeout=PATIENCE_MS)


def expect_masks(page: "Page", count: int) -> None:
    """Wait until so many objects have a volume."""
    from playwright.sync_api import expect

    expect(page.locator("#objects .volume", has_text="ml")).to_have_count(count, timeout=PATIENCE_MS)


def drag(page: "Page", box: tuple[int, int, int, int]) -> None:
    """From corner to corner."""
    page.mouse.move(*box[:2])
    page.mouse.down()
    page.mouse.move((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    page.mouse.move(*box[2:])
    page.mouse.up()


def saved(page: "Page", folder: Path) -> np.ndarray:
    """The labels of the file that the page gives."""
    with page.expect_download() as download:
        page.keyboard.press("Control+s")
    download.value.save_as(folder / download.value.suggested_filename)
    assert download.value.suggested_filename == NAME
    return read_label_map(folder / NAME).labels


def test_two_boxes_a_walk_undone_and_a_file_that_equals_predicts(
    page: "Page", offering: Server, shipped: Segmenter, shared: Path, tmp_path: Path
) -> None:
    """Open, scroll, a box in 3D and one of a slice, masks shown, a walk, undo, save; no request leaves the machine."""
    place = " ".join(page.locator("#place").inner_text().split())
    page.mouse.move(160, 300)
    page.mouse.wheel(0, -120)
    page.keyboard.press("ArrowDown")
    assert " ".join(page.locator("#place").inner_text().split()) != place
    page.keyboard.press("ArrowDown")
    page.select_option("#reach", "depth")
    page.fill("#depth", "4")
    drag(page, CORD)
    expect_masks(page, 1)
    page.locator("#boxes").focus()
    page.keyboard.press("n")
    page.select_option("#reach", "slice")
    drag(page, ARTERY)
    expect_masks(page, 2)
    before = masks_shown(page)
    page.locator("#boxes").focus()
    page.keyboard.press("n")
    page.select_option("#reach", "walk")
    drag(page, (255, 262, 310, 318))
    expect_masks(page, 3)
    (lease,) = offering.leases._leases.values()
    session: Any = lease.session
    assert sum(mask.any() for mask in session.mask(3)) > 3  # it went on beyond its slice
    page.locator("#boxes").focus()
    page.keyboard.press("Control+z")
    expect_masks(page, 2)
    assert sorted(session.objects) == [1, 2] and masks_shown(page) == before
    case = read_input(shared / "data" / "nifti" / NAME)
    boxes = np.array([session.objects[label][0].box for label in (1, 2)])
    assert (boxes[:, 5] - boxes[:, 2]).tolist() == [8, 0]
    expected = shipped.segment(replace(case, boxes=boxes)).labels
    assert set(np.unique(expected)) == {0, 1, 2}
    assert np.array_equal(saved(page, tmp_path), expected)
    page.screenshot(path=tmp_path / "page.png")


def masks_shown(page: "Page") -> list[str]:
    """What stands in the list of objects that have a mask."""
    return [text for text in page.locator("#objects .volume").all_inner_texts() if "ml" in text]


def test_a_box_can_be_drawn_by_keys_alone(page: "Page", offering: Server) -> None:
    """Crosshair to a corner, B, to the other one, B."""
    page.locator("#boxes").focus()
    page.keyboard.press("b")
    for _ in range(5):
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Shift+ArrowUp")
    page.select_option("#reach", "slice")
    page.locator("#boxes").focus()
    page.keyboard.press("b")
    expect_message(page, "1 object|unsure of|No masks")
    session: Any = list(offering.leases._leases.values())[-1].session
    ((box,),) = session.objects.values()
    assert np.diff(np.reshape(box.box, (2, 3)), axis=0).tolist() == [[5, 5, 0]]


def test_a_box_lies_where_it_was_drawn(page: "Page", offering: Server) -> None:
    """Mouse to voxels and back to the outline: with x to the left in the picture, as radiologists look at it."""
    page.select_option("#case", THIN)
    expect_message(page, "512 × 512 × 20 voxels")
    page.select_option("#reach", "slice")
    drag(page, (512, 340, 574, 396))
    expect_masks(page, 1)
    session: Any = list(offering.leases._leases.values())[-1].session
    ((box,),) = session.objects.values()
    low, high = np.reshape(box.box, (2, 3))[:, :2]
    scale, scale_y = (high - low + 1) / (574 - 512, 396 - 340)  # voxels in a px of the screen
    assert scale == pytest.approx(scale_y, rel=0.05)
    assert (low[0] + high[0]) / 2 == pytest.approx(256 + (543 - 533) * scale, abs=1.5)  # the image is in the middle
    assert page.evaluate(INKED, [[512, 368], [574, 368], [540, 340], [540, 396], [550, 375], [500, 368]]) == [
        True, True, True, True, False, False,
    ]  # fmt: skip


def test_a_stopped_walk_takes_its_box_back(
    page: "Page", offering: Server, shipped: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slices are shown while the walk goes on; after Stop, by button or Escape, the page has the masks of before."""
    page.select_option("#reach", "slice")
    drag(page, ARTERY)
    expect_masks(page, 1)
    before, shown = masks_shown(page), page.evaluate(SHOWN)
    encode, asked = shipped.engine.encode, []

    def slowly(images: np.ndarray) -> np.ndarray:
        asked.append(len(images))
        time.sleep(0.3)
        return encode(images)

    monkeypatch.setattr(shipped.engine, "encode", slowly)
    session: Any = list(offering.leases._leases.values())[-1].session
    page.select_option("#reach", "walk")
    for stop in (lambda: page.click("#stop"), lambda: page.locator("#boxes").press("Escape")):
        asked.clear()
        page.locator("#boxes").press("n")
        drag(page, CORD)
        expect_message(page, r"Finding the mask … [1-9]")
        assert page.evaluate(SHOWN)[2] > 0
        assert page.evaluate(INKED, [CORD[:2]]) == [True]
        stop()
        expect_message(page, "Stopped; the box is taken back")
        assert len(asked) < 45 and list(session.objects) == [1]  # of 55 slices
        assert masks_shown(page) == before and page.evaluate(SHOWN) == shown
        assert page.evaluate(INKED, [CORD[:2], (98, 290)]) == [False, True]


def test_keys_undo_and_redo(page: "Page", offering: Server) -> None:
    """Ctrl+Z, and both ways to redo; what cannot be done is said."""
    page.select_option("#reach", "slice")
    drag(page, ARTERY)
    expect_masks(page, 1)
    shown = page.evaluate(SHOWN)
    for redo in ("Control+y", "Control+Shift+z"):
        page.locator("#boxes").press("Control+z")
        expect_message(page, "No masks")
        assert page.evaluate(SHOWN)[1] == 0
        page.locator("#boxes").press(redo)
        expect_masks(page, 1)
        assert page.evaluate(SHOWN) == shown
    page.locator("#boxes").press("Control+y")
    expect_message(page, "there is nothing to redo")


def test_a_dropped_folder_is_opened_and_saved_as_dicom_seg(page: "Page", tmp_path: Path) -> None:
    """A series of the disk, with a box on it and a name for its object."""
    import pydicom

    disc = np.hypot(*np.mgrid[-32:32, -32:32]) < 20
    write_series(tmp_path / "series", np.where(disc, 300, 40).astype(np.int16) * np.ones((6, 1, 1), np.int16))
    drop(page, tmp_path / "series")
    expect_message(page, "64 × 64 × 6 voxels, CT")
    page.click("[data-plane=axial]")
    page.select_option("#reach", "depth")
    drag(page, (320, 150, 750, 590))
    expect_masks(page, 1)
    page.get_by_label("Name of label 1").fill("liver")
    page.select_option("#format", "dicom-seg")
    page.locator("#boxes").focus()
    with page.expect_download() as download:
        page.keyboard.press("Control+s")
    found = pydicom.dcmread(download.value.path())
    assert found.Modality == "SEG" and found.PatientName == "Test"
    assert [segment.SegmentLabel for segment in found.SegmentSequence] == ["liver"]
    assert found.pixel_array.sum() == page.evaluate(SHOWN)[1] > 2000


def test_a_dropped_file_that_is_no_image_is_refused(page: "Page", tmp_path: Path) -> None:
    """In a line; what was open stays."""
    (tmp_path / "letter.txt").write_text("Dear reader")
    drop(page, tmp_path / "letter.txt")
    expect_message(page, r"letter\.txt: no image to open")
    assert page.locator("#message").get_attribute("class") == "bad"
    page.select_option("#reach", "slice")
    drag(page, ARTERY)
    expect_masks(page, 1)


def drop(page: "Page", path: Path) -> None:
    """A file or folder, as a file manager lets go of it."""
    driver = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
        driver.send("Input.dispatchDragEvent", {"type": kind, "x": 500, "y": 300, "data": data})


SHOWN = "() => [0, 1, 2].map((label) => viewer.drawBitmap.filter((voxel) => voxel === label).length)"
VIEWER = """let library;
    Object.defineProperty(globalThis, "niivue", {
        set: (exports) => { library = exports; },
        get: () => ({ ...library, Niivue: class extends library.Niivue {
            constructor(options) { super(options); globalThis.viewer = this; }
        } }),
    });"""
INKED = """(places) => places.map(([x, y]) => document.getElementById("boxes").getContext("2d")
    .getImageData(x - 3, y - 3, 7, 7).data.some((value) => value > 0))"""
