"""What the stability score of a mask says of its overlap with the truth: `python -m measure.stability CASES`.

Each box of labelled cases is segmented as `samedge predict` does; see `edge.masks.stability`.
"""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.formats.finding import find_inputs
from edge.data.formats.registry import read_with_truth
from edge.engines.model_folder import DEFAULT_MODEL
from edge.engines.runtime import describe_engine
from edge.errors import RunError
from edge.reports.report import now, print_rows, write_json
from edge.segmenter import Segmenter
from edge.system.machine import describe_machine

BANDS = (0.0, 0.7, 0.8, 0.9, 0.95)  # scores from each to the next
KINDS = ("images", "volumes")
BAD = 0.7  # DSC below which a mask should be called unsure
THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.9)  # of the score, below which it is


@dataclass(frozen=True)
class Box:
    """One that was segmented."""

    kind: str  # of KINDS
    stability: float
    iou: float  # of its label with the truth's

    @property
    def dsc(self) -> float:
        """Of its label with the truth's."""
        return 2 * self.iou / (1 + self.iou)


def boxes_of(paths: Sequence[Path], segmenter: Segmenter) -> Iterator[Box]:
    """Of the cases that have a truth, those boxes whose label occurs in it."""
    for path in paths:
        case = read_with_truth(path)
        if case.truth is None:
            continue
        found = segmenter.segment(case)
        for label, score in enumerate(found.stability, 1):
            truth, mask = case.truth == label, found.labels == label
            if truth.any():
                overlap = float((truth & mask).sum() / (truth | mask).sum())
                yield Box(KINDS[case.is_volume], score, overlap)


def rows_of(boxes: Sequence[Box]) -> list[dict[str, Any]]:
    """A row a kind: how score and IoU go together, and the mean IoU of the boxes within each of BANDS.

    Raises:
        RunError: no boxes with a truth.
    """
    from scipy.stats import spearmanr

    if not boxes:
        raise RunError("no box with a truth among these cases")
    rows = []
    for kind in KINDS:
        of_kind = [box for box in boxes if box.kind == kind]
        if len(of_kind) < 2:
            continue
        scores, ious = (np.array([getattr(box, key) for box in of_kind]) for key in ("stability", "iou"))
        band = np.digitize(scores, BANDS) - 1
        rows.append(
            {
                "kind": kind,
                "boxes": len(of_kind),
                "spearman": float(spearmanr(scores, ious).statistic),
                "mean_difference": float(np.abs(scores - ious).mean()),
                "bands": [_band(low, ious[band == number]) for number, low in enumerate(BANDS)],
            }
        )
    return rows


def _band(low: float, ious: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {"from": low, "boxes": len(ious), "mean_iou": float(ious.mean()) if len(ious) else None}


def caught(boxes: Sequence[Box]) -> list[dict[str, Any]]:
    """A row a threshold: which shares, 0 to 1, of the masks below and not below a DSC of BAD are called unsure."""
    bad = np.array([box.dsc < BAD for box in boxes])
    scores = np.array([box.stability for box in boxes])
    return [
        {
            "threshold": threshold,
            "boxes": len(boxes),
            "bad": int(bad.sum()),
            "sensitivity": float((scores < threshold)[bad].mean()) if bad.any() else None,
            "false_alarms": float((scores < threshold)[~bad].mean()) if not bad.all() else None,
        }
        for threshold in THRESHOLDS
    ]


def unsure_table(report: Mapping[str, Any]) -> list[list[str]]:
    """Of what `main` writes: a row a threshold."""
    rows = [["unsure below", f"of masks with a DSC below {BAD:g}", "of all others"]]
    for row in report["thresholds"]:
        shares = ["" if row[key] is None else f"{100 * row[key]:.0f} %" for key in ("sensitivity", "false_alarms")]
        rows.append([f"{row['threshold']:.2f}", *shares])
    return rows


def stability_table(report: Mapping[str, Any]) -> list[list[str]]:
    """Of what `main` writes: a row a kind; mean IoU (boxes) by score."""
    ends = [*(f"{low:g} to {high:g}" for low, high in itertools.pairwise(BANDS)), f"{BANDS[-1]:g} to 1"]
    rows = [["", "boxes", "rank correlation", "mean difference", *ends]]
    for row in report["rows"]:
        bands = [
            "" if band["mean_iou"] is None else f"{band['mean_iou']:.2f} ({band['boxes']})" for band in row["bands"]
        ]
        rows.append([row["kind"], str(row["boxes"]), f"{row['spearman']:.2f}", f"{row['mean_difference']:.2f}", *bands])
    return rows


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m measure.stability", description="Stability scores and true IoU of boxes."
    )
    parser.add_argument("cases", type=Path, nargs="+", help="labelled cases, or folders of them")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model folder")
    parser.add_argument("--json", type=Path, help="write the table here")
    chosen = parser.parse_args()
    segmenter = Segmenter(chosen.model)
    paths = [path for given in chosen.cases for path in find_inputs(given)]
    report: dict[str, Any] = {
        "created": now(),
        "machine": describe_machine(),
        "engines": [describe_engine(segmenter.engine)],
    }
    boxes = list(boxes_of(paths, segmenter))
    report |= {"case_count": len(paths), "rows": rows_of(boxes), "thresholds": caught(boxes)}
    print_rows(stability_table(report))
    print_rows(unsure_table(report))
    if chosen.json:
        write_json(chosen.json, report)


if __name__ == "__main__":
    main()
