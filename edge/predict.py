"""A folder of cases to a folder of label maps: one bad case never stops the others, a done case is not done again."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge.data.case import Case, read_case
from edge.data.folders import label_of, labelled
from edge.data.npz import write_npz
from edge.data.partial import remove_partial_files
from edge.data.picture import find_inputs, is_picture, read_picture, with_boxes
from edge.errors import CaseError, RunError, SamedgeError
from edge.notes import Note

if TYPE_CHECKING:
    from edge.segmenter import Segmenter


@dataclass(frozen=True)
class Prediction:
    """What became of one case file."""

    name: str  # of one in a subfolder, with that: sub/2DBox_CT_1
    status: str  # "done", "skipped" (its output was there already) or "failed"
    error: str | None = None  # one line, of a failed case
    shape: tuple[int, ...] = ()  # of the label map
    boxes: int = 0
    slices: int = 0
    stage_s: dict[str, float] = field(default_factory=dict)  # read, the pipeline's stages, save
    total_s: float = 0.0
    waited_s: float = 0.0  # for the model, between reading and the rest; not part of total_s
    notes: tuple[Note, ...] = ()  # what was assumed


def plan(inputs: Path, outputs: Path, *, overwrite: bool, recursive: bool = False) -> tuple[list[Path], list[Path]]:
    """Case files and pictures to do, and those whose output is there already; makes the output folder.

    Args:
        recursive: those of the folders within `inputs`, too, except in `outputs`.

    Raises:
        CaseError: no cases.
        RunError: the output folder cannot be made or written, or lies where the inputs are.
    """
    paths = find_inputs(inputs, recursive=recursive, leave_out=outputs)
    folder = inputs if inputs.is_dir() else inputs.parent
    if outputs.resolve() == folder.resolve():
        raise RunError(f"{outputs}: outputs would overwrite the inputs; choose another folder")
    _make_folder(outputs)
    if not os.access(outputs, os.W_OK | os.X_OK):
        raise RunError(f"{outputs}: cannot be written (permission denied or read-only); choose another folder")
    for place in {_output_folder(path, folder, outputs) for path in paths}:
        remove_partial_files(place)
    pending: list[Path] = []
    done: list[Path] = []
    twins = _twins(paths)
    for path in paths:
        is_done = (_output_folder(path, folder, outputs) / f"{path.stem}.npz").is_file() and path not in twins
        (done if is_done and not overwrite else pending).append(path)
    return pending, done


def predict_cases(
    paths: list[Path],
    outputs: Path,
    load: "Callable[[], Segmenter]",
    *,
    root: Path | None = None,
    overlay: bool = False,
    box_format: str | None = None,
) -> Iterator[Prediction]:
    """Segment case files one after the other, writing `<outputs>/<name>.npz` with key `segs`.

    A picture's labels are also written as `<name>_labels.png`.

    Args:
        load: makes the segmenter; called once where there is a path, in a thread of its own while the first is read.
        root: the folder whose subfolders are made again in `outputs`; None: all outputs lie in it side by side.
        overlay: also write `<name>.png`.
        box_format: of the pictures' CSV files; see `edge.data.picture.read_boxes`.
    """
    if not paths:
        return
    twins = _twins(paths)
    with ThreadPoolExecutor(1) as pool:
        segmenter = pool.submit(load)
        for path in paths:
            start, folder = time.perf_counter(), _output_folder(path, root or path.parent, outputs)
            name = label_of(path, root or path.parent)
            try:
                case = read_picture(path) if is_picture(path) else read_case(path)
                if twin := twins.get(path):
                    raise CaseError(f"{path.stem}: {path.name} and {twin.name} would write the same output; rename one")
            except Exception as error:
                yield _failed(name, path, error)
                continue
            read = time.perf_counter()
            loaded = segmenter.result()
            waited_s = time.perf_counter() - read
            try:
                predicted = _predict_case(case, path, folder, loaded, read - start, overlay, box_format)
            except Exception as error:
                predicted = _failed(name, path, error)
            yield replace(predicted, name=name, waited_s=waited_s)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot make the output folder ({error.strerror})") from None


def _output_folder(path: Path, root: Path, outputs: Path) -> Path:
    return outputs / path.parent.relative_to(root) if root in path.parents else outputs


def _predict_case(
    case: Case,
    path: Path,
    folder: Path,
    segmenter: "Segmenter",
    read_s: float,
    overlay: bool,
    box_format: str | None,
) -> Prediction:
    start = time.perf_counter()
    if is_picture(path) and segmenter.engine.description.prompt == "box":
        case = with_boxes(case, path, box_format)
    result = segmenter.segment(replace(case, notes=()))  # they are told by whoever is given the prediction
    saving = time.perf_counter()
    _make_folder(folder)
    if is_picture(path):
        from edge.reports.overlay import write_labels

        write_labels(folder / f"{case.name}_labels.png", result.labels)
    write_npz(folder / f"{case.name}.npz", {"segs": result.labels})
    end = time.perf_counter()
    if overlay:
        from edge.reports.overlay import write_overlay

        write_overlay(folder / f"{case.name}.png", case, result.labels)
    stages = {"read": read_s, **result.stage_s, "save": end - saving}
    total_s = read_s + end - start
    what = result.labels.shape, result.boxes, result.slices
    return Prediction(case.name, "done", None, *what, stages, total_s, notes=case.notes)


def _failed(name: str, path: Path, error: Exception) -> Prediction:
    if isinstance(error, SamedgeError):
        reason = labelled(str(error), path, name)
    elif isinstance(error, MemoryError):
        reason = f"{name}: not enough memory for this case"
    else:  # a bug of ours must not cost the user the other cases
        first_line = f"{type(error).__name__}: {error}".splitlines()[0]
        reason = f"{name}: unexpected error, please report it ({first_line})"
    return Prediction(name, "failed", reason)


def _twins(paths: Sequence[Path]) -> dict[Path, Path]:
    """Of a file whose output another file of its folder may write instead of it, that one.

    a.npz comes before a.NPZ, both before a.png, and that before a.jpg.
    """
    wanted = {path for path in paths if path.suffix != ".npz"}
    first: dict[Path, Path] = {}
    for folder in {path.parent for path in wanted}:
        with suppress(CaseError):  # a folder that must not be listed
            for path in sorted(find_inputs(folder), key=lambda path: (path.suffix.lower() == ".npz", path)):
                first[path.with_suffix("")] = path
    return {path: twin for path in wanted if (twin := first.get(path.with_suffix(""), path)) != path}
