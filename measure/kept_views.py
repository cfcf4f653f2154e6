"""What a box loses in a kept view: `python -m measure.kept_views INPUTS docs/results/kept-views.json [MODEL]`.

`samedge serve` decodes a box in the view of one drawn before, if that is near. Of every labelled image a box is drawn:
by itself, and after another whose sides lie off its own by up to a share of them, as when a box is corrected.
"""

import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.case import find_cases, read_case
from edge.engines.model_folder import DEFAULT_MODEL
from edge.engines.runtime import describe_engine
from edge.reports.report import now, write_json
from edge.segmenter import Segmenter
from edge.serve.session import Session
from edge.system.home import engine_cache
from edge.system.machine import describe_machine

MOVED = (0.05, 0.1)  # of a box's sides, at most


def dice(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
    """Overlap of two masks, one of them not empty."""
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def moved(box: npt.NDArray[np.float64], share: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A box (4,) with each side up to a share of the box's own further in or out, in whole px."""
    size = np.tile(box[2:] - box[:2] + 1, 2)
    return np.rint(box + rng.uniform(-share, share, 4) * size)


def measure(path: Path, segmenter: Segmenter) -> dict[float, list[float]]:
    """Moved by -> DSC of a box drawn first, DSC of it drawn after the moved one, DSC between the two; of one image."""
    case = read_case(path, with_truth=True)
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    row = int(rng.integers(len(case.boxes)))
    truth, found = np.asarray(case.truth) == row + 1, {}
    first = _mask_after([], case.boxes[row], Session(segmenter, case))
    for share in MOVED:
        after = _mask_after([moved(case.boxes[row], share, rng)], case.boxes[row], Session(segmenter, case))
        found[share] = [dice(first, truth), dice(after, truth), dice(first, after)]
    return found


def _mask_after(
    before: list[npt.NDArray[np.float64]], box: npt.NDArray[np.float64], session: Session
) -> npt.NDArray[np.bool_]:
    for label, one in enumerate([*before, box], 1):
        session.add_box(label, one)
        mask = session.mask(label)
    return mask


def kept_views_table(report: Mapping[str, Any]) -> list[list[str]]:
    """A row for each distance."""
    rows = [["sides of the box before, off by", "boxes", "DSC, drawn first", "DSC, drawn after it", "DSC between"]]
    return rows + [
        [f"0 to {row['moved']:.0%}", str(row["boxes"]), *(f"{row[key]:.3f}" for key in ("first", "after", "between"))]
        for row in report["distances"]
    ]


def main() -> None:
    """Measure every image of a folder."""
    inputs, out = map(Path, sys.argv[1:3])
    segmenter = Segmenter(Path(sys.argv[3]) if len(sys.argv) > 3 else DEFAULT_MODEL, cache=engine_cache())
    found = []
    for path in find_cases(inputs):
        if path.name.startswith("2DBox"):
            print(path.stem, file=sys.stderr)
            found.append(measure(path, segmenter))
    distances = []
    for share in MOVED:
        means = np.mean([one[share] for one in found], axis=0).tolist()
        distances.append(
            {"moved": share, "boxes": len(found), **dict(zip(("first", "after", "between"), means, strict=True))}
        )
    report = {"created": now(), "machine": describe_machine(), "engines": [describe_engine(segmenter.engine)]}
    write_json(out, {**report, "distances": distances})


if __name__ == "__main__":
    main()
