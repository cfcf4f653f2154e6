"""The picture of README: masks that the tool made of phantoms in `cases/`. `python -m docs.picture [MODEL]`."""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from edge import Segmenter
from edge.engines.model_folder import DEFAULT_MODEL
from edge.predict import Job, predict_cases

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("2DBox_CT", "2DBox_Fundus", "2DBox_Microscopy", "2DBox_X-Ray")
HEIGHT_PX = 240


def main() -> None:
    """Segment the cases with overlays, as `samedge predict --overlay` does, and put those side by side."""
    segmenter = Segmenter(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MODEL)
    paths = [ROOT / "cases" / f"{name}_phantom.npz" for name in SHOWN]
    with tempfile.TemporaryDirectory() as folder:
        failed = [
            done.error
            for done in predict_cases(paths, Path(folder), lambda: segmenter, job=Job(overlay=True))
            if done.error
        ]
        if failed:
            sys.exit(f"error: {failed[0]}")
        tiles = [cv2.imread(str(Path(folder) / f"{path.stem}.png")) for path in paths]
    scaled = [
        cv2.resize(tile, None, fx=(by := HEIGHT_PX / len(tile)), fy=by, interpolation=cv2.INTER_AREA) for tile in tiles
    ]
    cv2.imwrite(
        str(ROOT / "docs" / "images" / "masks.png"), np.concatenate(scaled, axis=1), [cv2.IMWRITE_PNG_COMPRESSION, 9]
    )


if __name__ == "__main__":
    main()
