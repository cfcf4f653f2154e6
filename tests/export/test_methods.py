"""How volumes are segmented best: what export measures, and what it chooses by that."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.engines.model_folder import read_description, write_description
from edge.errors import CaseError
from export.model_files import methods
from export.model_files.methods import with_methods

VIEWS = {"sizes": [56, 112, 224], "box_share": 0.75, "least_scale": 1, "walk_size": None}
TRACKED = {"CT": 0.6, "MR": 0.7}


@pytest.mark.parametrize(
    ("walked", "chosen"),
    [({"CT": 0.65, "MR": 0.698}, True), ({"CT": 0.9, "MR": 0.696}, False)],
    ids=["0.2 points lost", "0.4 points lost"],
)
def test_walks_get_smaller_views_where_no_modality_loses(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, walked: dict[str, float], chosen: bool
) -> None:
    """0.3 points at most, whatever another gains; the scores are those of the views that are chosen."""
    model = _copy(tiny_model, tmp_path)
    asked: list[Any] = []

    def scores(engine: Any, sources: Any, method: str, progress: Any) -> dict[str, float]:
        walk_size = engine.description.ladder.walk_size
        asked.append((method, walk_size))
        return TRACKED if method == "tracked" else walked if walk_size else {"CT": 0.65, "MR": 0.7}

    monkeypatch.setattr(methods, "_scores", scores)
    monkeypatch.setattr(methods, "find_sources", lambda folders: [])
    description = with_methods(model, tmp_path, print)
    assert asked == [("tracked", None), ("propagated", None), ("propagated", 112)]
    assert description.ladder is not None and description.ladder.walk_size == (112 if chosen else None)
    propagated = walked if chosen else {"CT": 0.65, "MR": 0.7}
    assert description.methods == {
        one: {"tracked": TRACKED[one], "propagated": propagated[one]} for one in ("CT", "MR")
    }


def _copy(model: Path, folder: Path) -> Path:
    """The model that fills boxes, as one for views."""
    copied = folder / "model"
    copied.mkdir()
    for path in model.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    write_description(copied, replace(read_description(copied), views=VIEWS))
    return copied


def test_every_volume_is_scored_by_its_modality(tiny_model: Path, tmp_path: Path) -> None:
    """A cuboid is found by a model that fills boxes, a box half of whose slices are empty by half; no image counts."""
    image = np.random.default_rng(0).integers(0, 256, (4, 256, 256), dtype=np.uint8)
    truth = np.zeros_like(image)
    truth[:, 50:100, 60:90] = 1
    (tmp_path / "volumes").mkdir()
    for name, labels in (("3DBox_CT_A_1", truth), ("3DBox_MR_A_1", truth * (np.arange(4) < 2)[:, None, None])):
        np.savez(tmp_path / "volumes" / f"{name}.npz", imgs=image, boxes=[[60, 50, 0, 89, 99, 3]], gts=labels)
    (tmp_path / "images").mkdir()
    np.savez(tmp_path / "images" / "2DBox_US_A_1.npz", imgs=image[0], boxes=[[60, 50, 89, 99]], gts=truth[0])
    description = with_methods(tiny_model, tmp_path / "volumes", lambda step: None)
    assert description.views is None and set(description.methods) == {"CT", "MR"}
    assert description.methods["CT"]["propagated"] == pytest.approx(1, abs=0.02)
    assert description.methods["MR"]["propagated"] == pytest.approx(2 / 3, abs=0.02)
    with pytest.raises(CaseError, match="no labelled volume to choose methods on"):
        with_methods(tiny_model, tmp_path / "images", print)
