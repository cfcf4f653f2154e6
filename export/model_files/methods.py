"""Which method segments the volumes of each modality best, measured with the engine that users get."""

from collections.abc import Callable
from pathlib import Path

from edge.choices import PROPAGATED, TRACKED
from edge.engines.runtime import load_engine
from edge.errors import CaseError
from edge.pipeline import Options, segment
from edge.scoring.score import mean_dice, mean_without_nan
from train.data.cases import find_sources, read_labelled, truth_of

METHODS = (TRACKED, PROPAGATED)


def measure_methods(model: Path, folder: Path, progress: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """Modality -> method -> mean DSC, 0 to 1, over the labelled volumes of a folder; precision `auto`.

    Raises:
        CaseError: the folder has no labelled volume.
    """
    engine = load_engine(model, precision="auto")
    found: dict[str, dict[str, list[float]]] = {}
    sources = find_sources([folder])
    for number, source in enumerate(sources, 1):
        case = read_labelled(source)
        if not case.is_volume or not len(case.boxes):
            continue
        progress(f"methods on volumes, {number} of {len(sources)}")
        scores = found.setdefault(case.modality, {method: [] for method in METHODS})
        for method in METHODS:
            labels = segment(case, engine, Options(method=method)).labels
            scores[method].append(mean_dice(truth_of(case), labels))
    if not found:
        raise CaseError(f"{folder}: no labelled volume to choose methods on")
    return {
        modality: {method: round(mean_without_nan(values), 4) for method, values in scores.items()}
        for modality, scores in sorted(found.items())
    }
