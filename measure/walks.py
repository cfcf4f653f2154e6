"""Walks of large objects by the size of their views: `python -m measure.walks VAL docs/results/walks.json [MODEL]`.

Volumes with an object that asks for the model's largest views are segmented by the method `propagated`, with each size
of the ladder from the second on as the largest of a walk. Spacing of the files is taken for z, y, x.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from edge.choices import PROPAGATED
from edge.data.case import Case, find_cases, read_case
from edge.engines.model_folder import DEFAULT_MODEL
from edge.engines.runtime import Engine, describe_engine, load_engine
from edge.pipeline import Options, segment, set_image_threads
from edge.reports.report import now, write_json
from edge.scoring.evaluate import spacings
from edge.scoring.score import score_case
from edge.system.home import engine_cache
from edge.system.machine import describe_machine
from edge.views.ladder import ViewLadder


def is_large(case: Case, ladder: ViewLadder) -> bool:
    """Whether a volume's boxes ask for the largest views."""
    return case.is_volume and any(ladder.view_around(box).size == ladder.sizes[-1] for box in case.boxes_on_slice)


def walked(path: Path, case: Case, engine: Engine, size: int) -> dict[str, Any]:
    """Scores of a volume, and CPU seconds, where walks are shown views of `size` px at most."""
    described = engine.description
    engine.description = replace(described, views={**(described.views or {}), "walk_size": size})
    start = time.process_time()
    labels = segment(case, engine, Options(method=PROPAGATED)).labels
    cpu_s = time.process_time() - start
    engine.description = described
    spacing_mm, in_file = spacings(path, case.spacing_mm, "zyx")
    score = score_case(case.name, np.asarray(case.truth), labels, spacing_mm, file_spacing=in_file)
    return {"name": case.name, "modality": case.modality, "walk_size": size, "error": None,
            "dsc": score.dsc, "nsd": score.nsd, "cpu_s": round(cpu_s, 2)}  # fmt: skip


def walks_table(report: Mapping[str, Any]) -> list[list[str]]:
    """A row for each modality and size."""
    rows = [["modality", "largest view of a walk, px", "volumes", "DSC", "NSD", "CPU seconds together"]]
    kinds = sorted({(case["modality"], case["walk_size"]) for case in report["cases"]})
    return rows + [_row(modality, size, report["cases"]) for modality, size in kinds]


def _row(modality: str, size: int, cases: Sequence[Mapping[str, Any]]) -> list[str]:
    of = [case for case in cases if (case["modality"], case["walk_size"]) == (modality, size)]
    dsc, nsd = (fmean(case[score] for case in of) for score in ("dsc", "nsd"))
    return [modality, str(size), str(len(of)), f"{dsc:.3f}", f"{nsd:.3f}", f"{sum(case['cpu_s'] for case in of):.1f}"]


def main() -> None:
    """Measure the volumes of a folder, on one thread."""
    inputs, out = map(Path, sys.argv[1:3])
    model = Path(sys.argv[3]) if len(sys.argv) > 3 else DEFAULT_MODEL
    engine = load_engine(model, precision="auto", threads=1, cache=engine_cache())
    set_image_threads(1)
    ladder, cases = engine.description.ladder, []
    if ladder is None:
        sys.exit(f"error: {model} is shown whole slices, it has no views")
    for path in find_cases(inputs):
        case = read_case(path, with_truth=True)
        if is_large(case, ladder):
            print(case.name, file=sys.stderr)
            cases += [walked(path, case, engine, size) for size in ladder.sizes[:0:-1]]
    engines = [describe_engine(engine)]
    write_json(out, {"created": now(), "machine": describe_machine(), "engines": engines, "cases": cases})


if __name__ == "__main__":
    main()
