"""Arrays in, labels out: the Python way in."""

import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import Case, make_case
from edge.engines.model_folder import DEFAULT_MODEL
from edge.engines.runtime import load_engine
from edge.errors import CaseWarning
from edge.memory import MemoryGuard
from edge.pipeline import Options, Segmentation, segment, set_image_threads


class Segmenter:
    """A loaded model that segments case after case.

    from edge import Segmenter
    segmenter = Segmenter()
    labels = segmenter.segment_arrays(image, boxes)

    Any number of threads may share one: each gets the labels it would get alone. With OpenVINO two callers run side by
    side, on half of the threads each, and more take turns; the graphs for that are loaded when callers first meet, so
    a caller that is alone pays nothing for them. With ONNX Runtime all run side by side. `python -m
    measure.callers CASES` measures 1, 2 and 4 callers. The memory limit is reckoned for one case at a time.

    Not to be sent to another process: make one in each. A process forked after one was made can have none (RunError);
    `multiprocessing`'s `spawn` and `forkserver` are right.
    """

    def __init__(
        self,
        model: Path | str = DEFAULT_MODEL,
        *,
        backend: str = "openvino",
        precision: str = "auto",
        threads: int | None = None,
        cache: Path | str | None = None,
        options: Options | None = None,
    ) -> None:
        """Load a model; see `edge.engines.runtime.load_engine` for the arguments and what it raises."""
        start = time.perf_counter()
        self.engine = load_engine(Path(model), backend=backend, precision=precision, threads=threads, cache=cache)
        self.load_s = time.perf_counter() - start
        self.options = options or Options()
        self.guard = MemoryGuard.of_this_process()
        set_image_threads(self.engine.threads)

    def segment(self, case: Case) -> Segmentation:
        """Segment a case from `edge.read_case` or `edge.make_case`, within this process's memory limit.

        Warns (`edge.CaseWarning`) of what was assumed about the case, its `notes`.
        """
        _warn(case)
        return self._segment(case)

    def segment_arrays(self, image: npt.ArrayLike, boxes: npt.ArrayLike, name: str = "image") -> npt.NDArray:
        """Labels (H, W) of an image (H, W[, 3]) and boxes (N, 4), or (D, H, W) of a volume and boxes (N, 6).

        Values 0 to 255; boxes in pixels, inclusive, `x_min y_min [z_min] x_max y_max [z_max]`; label k is the k-th box.
        Warns as `segment` does.

        Raises:
            CaseError: the arrays do not fit; see `edge.make_case`.
        """
        case = make_case(name, np.asarray(image), boxes)
        _warn(case)
        return self._segment(case).labels

    def _segment(self, case: Case) -> Segmentation:
        return segment(case, self.engine, self.guard.fit(self.options, case, self.engine.description))


def _warn(case: Case) -> None:
    for note in case.notes:
        warnings.warn(f"{case.name}: {note}", CaseWarning, stacklevel=3)  # of the line that gave the case
