"""Prepared data drawn by hand, made without processes of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

from edge.data.case import make_case, write_case
from train.data import placement, preparing, prompts
from train.data.prepared import Prepared

Drawn: TypeAlias = dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray]]  # case -> image and labels
Prepare: TypeAlias = Callable[..., Prepared]  # (Drawn, predicted: Path | None = None)


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Drawn cases, written as `.npz` below `tmp_path / "data"`, as prepared data."""
    monkeypatch.setattr(preparing, "_pack_all", lambda sources, own: [preparing._pack(one, own) for one in sources])

    def made(drawn: Drawn, predicted: Path | None = None) -> Prepared:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for name, (image, labels) in drawn.items():
            boxes = np.zeros((0, 6 if labels.ndim == 3 else 4))
            write_case(folder / f"{name}.npz", make_case(name, image, boxes, truth=labels))
        return preparing.prepare([folder], tmp_path / "prepared", predicted)

    return made


@pytest.fixture
def picture() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Two bright rectangles on noise, 100 x 80 px: label 1 is 20 x 10 px at x 30, y 40; 2 is 8 x 8 at x 50, y 70."""
    image = np.random.default_rng(0).integers(0, 60, (100, 80, 3), dtype=np.uint8)
    labels = np.zeros((100, 80), np.uint8)
    labels[40:50, 30:50], labels[70:78, 50:58] = 1, 2
    image[labels > 0] = 255
    return image, labels


@pytest.fixture
def tube() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A volume of 13 slices: on slices 2 to 10 a 12 px square that moves to the right by 2 px a slice.

    On slice z it is 100 + 10z, its columns are 10 + 2z to 21 + 2z, its rows 20 to 31; around it all is 1.
    """
    labels = np.zeros((13, 60, 60), np.uint8)
    image = np.ones_like(labels)
    image[0, 0, 0], image[0, 0, 1] = 0, 255
    for z in range(2, 11):
        labels[z, 20:32, 10 + 2 * z : 22 + 2 * z] = 1
        image[z, labels[z] == 1] = 100 + 10 * z
    return image, labels


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tight boxes; walks as the runtime would show them: the mask at 0.72 of the view, in its middle, not warped."""
    for name, value in (("WARPED", 0.0), ("OFF_CENTRE", 0.0), ("SHARE", (0.72, 0.72))):
        monkeypatch.setattr(placement, name, value)
    for name, value in (("LOOSEST_PX", 0.0), ("SLOPPY", 0.0)):
        monkeypatch.setattr(prompts, name, value)
