"""How the volumes of each modality are segmented best, measured with the engine that users get."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from edge.choices import PROPAGATED, TRACKED
from edge.engines.model_folder import ModelDescription
from edge.engines.runtime import Engine, load_engine
from edge.errors import CaseError
from edge.pipeline import Options, segment
from edge.scoring.score import mean_dice, mean_without_nan
from train.data.cases import find_sources, read_boxed, truth_of

METHODS = (TRACKED, PROPAGATED)
MAY_LOSE = 0.003  # DSC of any modality by smaller views of a walk, which take less than half of the time

Scores = dict[str, float]  # modality -> mean DSC, 0 to 1


def with_methods(model: Path, folder: Path, progress: Callable[[str], None]) -> ModelDescription:
    """The description of a model folder with the methods' scores on the labelled volumes of `folder`; precision `auto`.

    Walks are shown the views next to the largest at most, if no modality loses more than MAY_LOSE by it.

    Raises:
        CaseError: the folder has no labelled volume.
    """
    engine, sources = load_engine(model, precision="auto"), find_sources([folder])
    description, ladder = engine.description, engine.description.ladder
    scores = {method: _scores(engine, sources, method, progress) for method in METHODS}
    if not scores[TRACKED]:
        raise CaseError(f"{folder}: no labelled volume to choose methods on")
    if ladder is not None and len(ladder.sizes) > 1:
        smaller = replace(description, views={**(description.views or {}), "walk_size": ladder.sizes[-2]})
        engine.description = smaller
        walked = _scores(engine, sources, PROPAGATED, progress)
        if all(dsc >= scores[PROPAGATED][modality] - MAY_LOSE for modality, dsc in walked.items()):
            description, scores[PROPAGATED] = smaller, walked
    modalities = sorted(scores[TRACKED])
    return replace(
        description,
        methods={one: {method: round(scores[method][one], 4) for method in METHODS} for one in modalities},
    )


def _scores(engine: Engine, sources: Sequence[Path], method: str, progress: Callable[[str], None]) -> Scores:
    found: dict[str, list[float]] = {}
    for number, source in enumerate(sources, 1):
        try:
            case = read_boxed(source)
        except CaseError as error:
            progress(f"left out: {error}")
            continue
        if case.is_volume:
            progress(f"{method} volumes, {number} of {len(sources)}")
            labels = segment(case, engine, Options(method=method)).labels
            found.setdefault(case.modality, []).append(mean_dice(truth_of(case), labels))
    return {modality: mean_without_nan(values) for modality, values in found.items()}
