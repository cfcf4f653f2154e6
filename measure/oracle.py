"""What a model finds in the true box of every slice: `python -m measure.oracle INPUTS OUT.json [MODEL]`.

Each slice of each labelled volume is segmented by itself, from the extent of each object on it, 0 to 5 px loose on
every side. That tells what a wrong box on a slice costs from what a wrong mask in it does.
"""

import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.choices import FIXED
from edge.data.case import Case, find_cases, read_case
from edge.data.extent import box_of
from edge.data.labels import label_dtype
from edge.engines.model_folder import DEFAULT_MODEL
from edge.engines.runtime import describe_engine
from edge.pipeline import Options
from edge.reports.report import now, write_json
from edge.scoring.score import score_case
from edge.segmenter import Segmenter
from edge.system.home import engine_cache
from edge.system.machine import describe_machine

LOOSE_PX = 5  # on a side, at most, as the challenge's boxes are


def true_boxes(truth: npt.NDArray, rng: np.random.Generator) -> tuple[list[int], npt.NDArray[np.float64]]:
    """Labels on a slice (H, W) and their extents (K, 4), each side 0 to LOOSE_PX px further out, within the slice."""
    labels = np.unique(truth[truth > 0]).tolist()
    tight = np.array([box_of(truth == label) for label in labels]).reshape(-1, 4)
    loose = tight + rng.integers(0, LOOSE_PX + 1, tight.shape) * np.array([-1, -1, 1, 1])
    height, width = truth.shape
    return labels, loose.clip(0, np.array([width, height, width, height]) - 1)


def segment_slices(case: Case, truth: npt.NDArray, segmenter: Segmenter) -> npt.NDArray:
    """Labels (D, H, W) of a volume from its truth's boxes; the case's name is their seed."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    found = np.zeros(case.shape, label_dtype(int(truth.max())))
    for z, on_slice in enumerate(truth):
        labels, boxes = true_boxes(on_slice, rng)
        if labels:
            deep = np.insert(boxes, [2, 4], 0, axis=1)  # a volume of this slice alone
            slice_ = replace(case, image=case.image[z : z + 1], boxes=deep, truth=None, notes=())
            found[z] = np.array([0, *labels])[segmenter.segment(slice_).labels[0]]
    return found


def oracle_report(paths: Sequence[Path], segmenter: Segmenter) -> dict[str, Any]:
    """DSC of every labelled volume, and what it was measured with."""
    cases = []
    for path in paths:
        case = read_case(path, with_truth=True)
        if case.is_volume and case.truth is not None:
            print(case.name, file=sys.stderr)
            found = segment_slices(case, case.truth, segmenter)
            dsc = score_case(case.name, case.truth, found, case.spacing_mm).dsc
            cases.append({"name": case.name, "modality": case.modality, "dsc": dsc, "error": None})
    engines = [describe_engine(segmenter.engine)]
    return {"created": now(), "machine": describe_machine(), "engines": engines, "cases": cases}


def main() -> None:
    """Measure every volume of a folder."""
    inputs, out = map(Path, sys.argv[1:3])
    model = Path(sys.argv[3]) if len(sys.argv) > 3 else DEFAULT_MODEL
    segmenter = Segmenter(model, cache=engine_cache(), options=Options(method=FIXED))
    volumes = [path for path in find_cases(inputs) if path.name.startswith("3DBox")]
    write_json(out, oracle_report(volumes, segmenter))


if __name__ == "__main__":
    main()
