"""The page in headless Chromium, as a user has it: 1366 x 768, mouse and keys. Run by make browser-test."""

import re
import shutil
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
from tests.edge.serve.conftest import KEY, Server, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

NAME = "MR_sct_t2_image.nii.gz"  # 52 x 60 x 55 voxels of a neck
THIN = "MR_thin.nii.gz"  # 512 x 512 x 20 voxels: its slices are stacked on the page, in other sizes
CORD, ARTERY = (110, 330, 225, 415), (40, 262, 98, 318)  # on the axial slice in the middle, px of the page
PATIENCE_MS = 240_000  # drawn by the CPU, beside whatever else it does


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
    """The page, with the case open; whatever it asks of others, or reports as an error, fails the test."""
    wrong: list[str] = []
    page = chromium.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(PATIENCE_MS)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: None if _is_own(request.url, offering) else wrong.append(request.url))
    page.goto(f"{offering.url}/#key={KEY}")
    expect_message(page, "2 cases in the folder")
    page.select_option("#case", NAME)
    expect_message(page, "52 × 60 × 55 voxels, MR")
    yield page
    assert wrong == []
    page.close()


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


INKED = """(places) => places.map(([x, y]) => document.getElementById("boxes").getContext("2d")
    .getImageData(x - 3, y - 3, 7, 7).data.some((value) => value > 0))"""
