"""The modules of docs that measure: hand-worked answers, and runs with a model that fills boxes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from edge.data.case import make_case
from edge.segmenter import Segmenter
from edge.views.ladder import ViewLadder
from measure import kept_views, walks


@pytest.fixture
def report(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What is written of two images, one of which is its box, and one of which is half of it."""
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for name, end in (("2DBox_US_A_1", 100), ("2DBox_US_A_2", 75)):
        truth = np.zeros((256, 256), np.uint8)
        truth[50:end, 60:90] = 1
        np.savez(tmp_path / f"{name}.npz", imgs=image, boxes=[[60, 50, 89, 99]], gts=truth)
    out = tmp_path / "kept-views.json"
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), str(out), str(tiny_model)])
    kept_views.main()
    return json.loads(out.read_text())


def test_a_box_drawn_after_another_loses_nothing_in_a_whole_image(report: dict[str, object]) -> None:
    """Which is all that the model is shown; a mask twice its object has a DSC of two thirds."""
    for row in report["distances"]:
        assert row["boxes"] == 2 and row["between"] == 1 and row["first"] == row["after"] == pytest.approx(5 / 6)


def test_masks_drawn_first_and_after_another_are_each_compared(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First a mask of 4 px, all of the truth; after another box half of it: 1, two thirds, and two thirds between."""
    truth = np.zeros((8, 8), np.uint8)
    truth[4:6, 4:6] = 1
    half = truth * (np.arange(8) < 5)
    path = tmp_path / "2DBox_US_A_1.npz"
    np.savez(path, imgs=np.arange(64, dtype=np.uint8).reshape(8, 8), boxes=[[4, 4, 5, 5]], gts=truth)
    monkeypatch.setattr(kept_views, "_mask_after", lambda before, box, session: (half if before else truth) > 0)
    for found in kept_views.measure(path, Segmenter(tiny_model)).values():
        assert found == pytest.approx([1, 2 / 3, 2 / 3])


def test_a_box_moves_by_a_share_of_its_sides() -> None:
    """Each side by itself, in whole px, in both directions."""
    rng, box = np.random.default_rng(0), np.array([100.0, 200, 299, 239])
    off = np.array([kept_views.moved(box, 0.1, rng) - box for _ in range(200)])
    assert (off == np.rint(off)).all()
    assert off.min(axis=0).tolist() == [-20, -4, -20, -4] and off.max(axis=0).tolist() == [20, 4, 20, 4]


def test_volumes_with_large_objects_are_walked_through() -> None:
    """Of more than 84 px, which views of 112 show too small; no image."""
    ladder, volume = ViewLadder((56, 112, 224), 0.75, 1), np.zeros((3, 200, 200), np.uint8)
    for extent, large in ((84, False), (85, True)):
        boxes = [[0, 0, 0, 9, 9, 2], [0, 0, 0, extent - 1, 9, 2]]
        assert walks.is_large(make_case("3DBox_CT_1", volume, boxes), ladder) is large
    assert not walks.is_large(make_case("2DBox_CT_1", volume[0], [[0, 0, 150, 150]]), ladder)


def test_walks_are_compared_by_modality() -> None:
    """Means of scores, sums of seconds."""
    cases = [
        {"modality": "CT", "walk_size": size, "dsc": dsc, "nsd": 0.5, "cpu_s": 2.5}
        for size, dsc in ((112, 0.5), (112, 0.7), (224, 0.4))
    ]
    assert walks.walks_table({"cases": cases})[1:] == [
        ["CT", "112", "2", "0.600", "0.500", "5.0"], ["CT", "224", "1", "0.400", "0.500", "2.5"],
    ]  # fmt: skip
