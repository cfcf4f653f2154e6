"""A folder of cases to a folder of label maps: one bad case never stops the others, a done case is not done again."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.data.case import Case
from edge.data.files import make_folder, remove_partial_files
from edge.data.folders import label_of, labelled
from edge.data.formats.finding import find_inputs
from edge.data.formats.registry import kind_of, read_input, read_stored
from edge.data.names import address_of, case_name, ending_of, is_folder, is_remote
from edge.data.outputs import ENDINGS, OVERLAY, SIDECAR, check_formats, formats_of, output_files, write_labels
from edge.data.prompting import Prompting, prompted
from edge.data.remote import list_objects, on_disk, results_on_disk
from edge.data.scan import Reading, mean_intensities
from edge.errors import CaseError, ModelError, RunError, SamedgeError
from edge.notes import Note

if TYPE_CHECKING:
    from edge.pipeline import Segmentation
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


@dataclass(frozen=True)
class Job:
    """How cases are read, prompted and written."""

    reading: Reading = field(default_factory=Reading)
    prompting: Prompting = field(default_factory=Prompting)
    formats: tuple[str, ...] | None = None  # of `edge.data.outputs.ENDINGS`; None: what came in
    sidecar: bool | None = None  # whether to write <name>.json; None: of scans, and where labels have names
    overlay: bool = False  # whether to write <name>.png, too


def plan(
    inputs: Path,
    outputs: Path,
    *,
    overwrite: bool,
    recursive: bool = False,
    formats: tuple[str, ...] | None = None,
    shard: tuple[int, int] = (1, 1),
) -> tuple[list[Path], list[Path]]:
    """Cases to do, and those whose outputs are there already; makes the output folder.

    Args:
        recursive: those of the folders within `inputs`, too, except in `outputs`.
        formats: of the outputs; None: what came in.
        shard: the i-th of n parts, i from 1: every n-th case in name order, done or not, so that parts stay the same.

    Raises:
        CaseError: no cases.
        RunError: the output folder cannot be made or written, or lies where the inputs are.
    """
    paths = find_inputs(inputs, recursive=recursive, leave_out=outputs, remote=True)[shard[0] - 1 :: shard[1]]
    folder = root_of(inputs)
    if outputs.resolve() == folder.resolve():
        raise RunError(f"{address_of(outputs)}: outputs would overwrite the inputs; choose another folder")
    if is_remote(outputs):
        there = set(list_objects(outputs))
    else:
        there = None
        _check_folder(outputs)
        for place in {output_folder(path, folder, outputs) for path in paths}:
            remove_partial_files(place)
    pending: list[Path] = []
    done: list[Path] = []
    twins = twins_of(paths)
    for path in paths:
        files = output_files(path, output_folder(path, folder, outputs), formats)
        is_there = all(file.is_file() if there is None else file in there for file in files)
        (done if is_there and path not in twins and not overwrite else pending).append(path)
    return pending, done


def lacking_files(done: Sequence[Path], root: Path, outputs: Path, endings: Sequence[str]) -> int:
    """How many cases that are done have not all files of these endings in a folder; in a store nobody looks."""
    if is_remote(outputs):
        return 0
    stems = [output_folder(path, root, outputs) / case_name(path) for path in done]
    return sum(not all(Path(f"{stem}{ending}").exists() for ending in endings) for stem in stems)


def root_of(inputs: Path) -> Path:
    """The folder of what `plan` is given: itself, or that of the one case."""
    return inputs if is_folder(inputs) else inputs.parent


def predict_cases(
    paths: list[Path],
    outputs: Path,
    load: "Callable[[], Segmenter]",
    *,
    root: Path | None = None,
    job: Job | None = None,
) -> Iterator[Prediction]:
    """Segment cases one after the other, writing the labels of each in the formats of `job`.

    Args:
        load: makes the segmenter; called once where there is a path, in a thread of its own while the first is read.
        root: the folder whose subfolders are made again in `outputs`; None: all outputs lie in it side by side.
        job: what is not as usual.
    """
    job = job or Job()
    if not paths:
        return
    twins = twins_of(paths)
    with ThreadPoolExecutor(1) as pool:
        segmenter = pool.submit(load)
        for path in paths:
            yield predict_case(path, outputs, segmenter.result, root=root or path.parent, job=job, twin=twins.get(path))


def predict_case(
    path: Path, outputs: Path, load: "Callable[[], Segmenter]", *, root: Path, job: Job, twin: Path | None = None
) -> Prediction:
    """Segment one case; for the arguments see `predict_cases`.

    Args:
        load: gives the segmenter, once the case is read.
        twin: another file that writes the same output, which this one must not.

    Raises:
        ModelError: the next case would fail alike.
    """
    start, name = time.perf_counter(), label_of(path, root)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(on_disk(path))
            case = read_input(file, job.reading)
            if twin:
                raise CaseError(
                    f"{case_name(path)}: {path.name} and {twin.name} would write the same output; rename one"
                )
        except Exception as error:
            return _failed(name, path, error)
        read = time.perf_counter()
        loaded = load()
        waited_s = time.perf_counter() - read
        try:
            folder = output_folder(path, root, outputs)
            predicted = _predict_case(case, file, folder, loaded, read - start, job, address_of(path))
        except ModelError:  # graphs are loaded when they are first needed
            raise
        except Exception as error:
            predicted = _failed(name, path, error)
        return replace(predicted, name=name, waited_s=waited_s)


def ran_on(segmenter: "Segmenter") -> dict[str, Any]:
    """Engine, options, the time its loading took, and the peak memory of this process, for the run's manifest."""
    from edge.engines.runtime import describe_engine
    from edge.system.machine import peak_memory_mib

    engine, options = describe_engine(segmenter.engine), asdict(segmenter.options)
    return {"engine": engine, "options": options, "load_s": segmenter.load_s, "peak_mib": peak_memory_mib()}


def _check_folder(outputs: Path) -> None:
    make_folder(outputs)
    if not os.access(outputs, os.W_OK | os.X_OK):
        raise RunError(f"{outputs}: cannot be written (permission denied or read-only); choose another folder")


def output_folder(path: Path, root: Path, outputs: Path) -> Path:
    """Where the outputs of a case are written: in `outputs` as the case lies below `root`."""
    return outputs / path.parent.relative_to(root) if root in path.parents else outputs


def _predict_case(
    case: Case, path: Path, folder: Path, segmenter: "Segmenter", read_s: float, job: Job, source: str
) -> Prediction:
    start = time.perf_counter()
    formats = formats_of(path, job.formats)
    check_formats(case, path, formats)
    if job.overlay and "png" in formats and f"{case.name}{OVERLAY}".endswith(ENDINGS["png"]):
        raise CaseError(f"{case.name}: its overlay would be called as labels of another case are; rename it")
    has_boxes = kind_of(path) == "npz" and not job.prompting.is_given
    if not has_boxes and segmenter.engine.description.prompt == "box":
        case = prompted(case, path, job.prompting)
    result = segmenter.segment(replace(case, notes=()))  # they are told by whoever is given the prediction
    segmented = saving = time.perf_counter()
    label_maps = [file.name for file in output_files(path, folder, formats)]
    with results_on_disk(folder, last=label_maps) as place:  # as here: a case counts as done where its label maps are
        make_folder(place)
        if job.sidecar or (job.sidecar is None and (case.geometry is not None or case.label_names)):
            files = [place / name for name in label_maps]
            _write_sidecar(case, result, path, source, files, segmenter, saving - start, job.reading)
        if job.overlay:
            from edge.masks.overlay import write_overlay

            drawing = time.perf_counter()
            write_overlay(place / f"{case.name}{OVERLAY}", case, result.labels)
            saving += time.perf_counter() - drawing  # a picture for people is no part of the time
        write_labels(case, result.labels, path, place, formats)
    saved_s = time.perf_counter() - saving
    stages = {"read": read_s, **result.stage_s, "save": saved_s}
    total_s = read_s + segmented - start + saved_s
    what = result.labels.shape, result.boxes, result.slices
    return Prediction(case.name, "done", None, *what, stages, total_s, notes=case.notes)


def _write_sidecar(
    case: Case,
    result: "Segmentation",
    path: Path,
    source: str,
    files: list[Path],
    segmenter: "Segmenter",
    seconds: float,
    reading: Reading,
) -> None:
    from edge.data.sidecar import describe, write_sidecar
    from edge.engines.runtime import describe_engine

    made_by, intensities = describe_engine(segmenter.engine), []
    if case.geometry is not None:  # a scan, of which the case holds greys only
        intensities = mean_intensities(read_stored(path, reading), result.labels, len(case.boxes))
    told = intensities, result.stability, reading.window
    content = describe(case, result.labels, source, files, made_by, seconds, *told)
    write_sidecar(files[0].parent / f"{case.name}{SIDECAR}", content)


def _failed(name: str, path: Path, error: Exception) -> Prediction:
    if isinstance(error, SamedgeError):
        reason = labelled(str(error), path, name)
    elif isinstance(error, MemoryError):
        reason = f"{name}: not enough memory for this case"
    else:  # a bug of ours must not cost the user the other cases
        first_line = f"{type(error).__name__}: {error}".splitlines()[0]
        reason = f"{name}: unexpected error, please report it ({first_line})"
    return Prediction(name, "failed", reason)


def twins_of(paths: Sequence[Path]) -> dict[Path, Path]:
    """Of a file whose output another file of its folder may write instead of it, that one.

    a.npz comes before a.NPZ, both before a.nii.gz and a.png, and that before a.jpg.
    """
    files = [path for path in paths if (not is_folder(path) if is_remote(path) else path.is_file())]
    wanted = {path for path in files if path.suffix != ".npz"}
    first: dict[tuple[Path, str], Path] = {}
    for folder in {path.parent for path in wanted}:
        with suppress(CaseError):  # a folder that must not be listed
            for path in sorted(find_inputs(folder, remote=True), key=_claim):
                first[path.parent, case_name(path)] = path
    return {path: twin for path in wanted if (twin := first.get((path.parent, case_name(path)), path)) != path}


def _claim(path: Path) -> tuple[bool, bool, Path]:
    """Later: with more right to the output of its name."""
    return ending_of(path) == ".npz", kind_of(path) != "picture", path
