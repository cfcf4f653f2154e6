"""What a box says by itself: the ellipse or ellipsoid in each, as labels: `python -m measure.ellipses INPUTS OUTPUTS`.

`samedge evaluate OUTPUTS INPUTS --json docs/results/ellipse.json` scores them as it scores a model's.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import Case, find_cases, read_case
from edge.data.labels import label_dtype
from edge.data.npz import write_npz


def ellipses(case: Case) -> npt.NDArray:
    """Labels of the case's shape: k within the ellipse inscribed in box k, edge to edge; the smallest box on top."""
    axes = len(case.shape)
    labels = np.zeros(case.shape, label_dtype(len(case.boxes)))
    corners = case.boxes.reshape(-1, 2, axes)[..., ::-1]  # (y, x) or (z, y, x), as the array
    low, high = corners[:, 0], corners[:, 1] + 1
    for row in np.argsort(-(high - low).prod(1), kind="stable"):
        centre, radius = (low[row] + high[row]) / 2, (high[row] - low[row]) / 2
        places = [((np.arange(n) + 0.5 - c) / r) ** 2 for n, c, r in zip(case.shape, centre, radius, strict=True)]
        labels[sum(np.ix_(*places)) <= 1] = row + 1
    return labels


def main() -> None:
    """Write the label map of every case of a folder."""
    inputs, outputs = map(Path, sys.argv[1:])
    outputs.mkdir(parents=True, exist_ok=True)
    for path in find_cases(inputs):
        write_npz(outputs / path.name, {"segs": ellipses(read_case(path))})


if __name__ == "__main__":
    main()
