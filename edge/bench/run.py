"""How long each stage of each case takes, in how much memory, and how good the masks are."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

import numpy.typing as npt

from edge.bench.noise import moved_boxes
from edge.choices import BOX_MARGIN_PX
from edge.data.case import Case, Spacing, read_labels
from edge.data.files import file_hash
from edge.data.folders import label_of, labelled
from edge.data.formats.finding import files_of
from edge.data.formats.registry import kind_of, read_with_truth
from edge.data.labels import number_by_box
from edge.data.modality import dataset_in_name, modality_of
from edge.data.names import case_name
from edge.data.prompting import box_source
from edge.errors import CaseError, RunError
from edge.notes import Note
from edge.predict import Job, predict_cases
from edge.scoring.evaluate import SpacingOrder, spacings
from edge.scoring.score import score_case
from edge.segmenter import Segmenter
from edge.system.machine import peak_memory_mib, reset_peak_memory

JOB = Job(formats=("npz",), sidecar=False)  # what is timed is written alike, whatever came in
NOISE = "noise"  # in a title, before the percentage
FORM = ("--format=npz", "--no-sidecar")
BASELINES_GROUP = "samedge.baselines"  # entry points: (case, folder for its result, Configuration) -> command line

Seen = Callable[["Measurement", Case, npt.NDArray], None] | None


@dataclass(frozen=True)
class Configuration:
    """What is benchmarked: the options of `samedge predict` that change time or masks."""

    model: Path
    backend: str = "openvino"
    precision: str = "auto"
    threads: int | None = None  # None: the cores this process may use
    method: str = "auto"
    box_margin: float = BOX_MARGIN_PX
    baseline: str | None = None  # another program instead, by its entry point in BASELINES_GROUP
    checkpoint: Path | None = None  # what a baseline runs with; None: its own default
    box_noise: float = 0.0  # % of a box's extent by which its sides are moved, see `edge.bench.noise`

    @property
    def title(self) -> str:
        noise = [NOISE, f"{self.box_noise:g} %"] if self.box_noise else []
        if self.baseline:
            return " ".join([self.baseline, *noise])
        unusual = [] if self.method == "auto" else [self.method]
        unusual += [] if self.box_margin == BOX_MARGIN_PX else [f"margin {self.box_margin:g}"]
        return " ".join([self.backend, self.precision, *unusual, *noise])


@dataclass(frozen=True)
class Measurement:
    """One case under one configuration."""

    name: str
    modality: str
    configuration: str
    error: str | None = None
    shape: tuple[int, ...] = ()
    boxes: int = 0
    slices: int = 0
    stage_s: dict[str, float] = field(default_factory=dict)  # a process of its own has `start` and `load` first
    total_s: float = 0.0  # in one process: read to saved; in a process of its own: its whole wall time
    cpu_s: float = 0.0  # of all threads; over total_s it is the number of cores kept busy
    ratio: float | None = None  # total_s over that of the first configuration on this case
    peak_mib: float = 0.0
    dsc: float | None = None  # None: no truth in the file; NaN: see edge.scoring.score
    nsd_official: float | None = None
    nsd: float | None = None
    notes: tuple[Note, ...] = ()  # what was assumed
    case_sha256: str = ""  # of the case's files, by which a later run knows that nothing has changed

    @property
    def dataset(self) -> str:
        """By its name; the modality that the name says, where it says no data set."""
        return dataset_in_name(PurePath(self.name).name)

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells measurements apart: which case, of what content, under which configuration."""
        return self.name, self.case_sha256, self.configuration


def measure_all(
    paths: list[Path],
    segmenters: Mapping[Configuration, Segmenter | None],
    before: Sequence[Measurement] = (),
    root: Path | None = None,
    *,
    job: Job = JOB,
    spacing_order: SpacingOrder = "xyz",
    seen: Seen = None,
) -> Iterator[Measurement]:
    """Every case under every configuration in turn, so that what slows the machine down slows all of them.

    Args:
        segmenters: of each configuration to run; where it is None, cases run in processes of their own.
        before: measurements of an earlier run, which are taken over.
        root: a case's name is its place below this folder; None: its file's name.
        job: how cases are read and prompted, with the formats of JOB.
        spacing_order: of `spacing` in `.npz` files.
        seen: is given each case that is measured now, as it was read, with its labels.
    """
    known = {measurement.key: measurement for measurement in before}
    for path in paths:
        sha256, name = _hash(path, job), label_of(path, root or path.parent)
        for configuration, segmenter in segmenters.items():
            measured = known.get((name, sha256, configuration.title))
            if measured is None:
                score = partial(_scored, name=name, job=job, spacing_order=spacing_order, seen=seen)
                measured = _measure(path, configuration, segmenter, job, score)
            error = measured.error and labelled(measured.error, path, name)
            yield replace(measured, name=name, error=error, case_sha256=sha256)


def _measure(
    path: Path,
    configuration: Configuration,
    segmenter: Segmenter | None,
    job: Job,
    score: Callable[[Measurement, Path, Path], Measurement],
) -> Measurement:
    plain = kind_of(path) == "npz" and not said(job)  # all that a baseline reads
    moving = moved_boxes(path, configuration.box_noise, job, as_npz=bool(configuration.baseline) and not plain)
    with moving as (given, given_job), tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder)
        if segmenter is None:
            measured = measure_process(given, outputs, configuration, given_job)
        else:
            measured = measure_here(given, outputs, configuration, segmenter, given_job)
        return measured if measured.error else score(measured, path, outputs)


def measure_here(
    path: Path, outputs: Path, configuration: Configuration, segmenter: Segmenter, job: Job = JOB
) -> Measurement:
    """One case in this process with a loaded model, not yet scored; its labels are in `outputs`."""
    reset_peak_memory()
    cpu_s = time.process_time()
    (prediction,) = predict_cases([path], outputs, lambda: segmenter, job=job)
    return Measurement(
        prediction.name, job.reading.modality or modality_of(prediction.name), configuration.title, prediction.error,
        prediction.shape, prediction.boxes, prediction.slices, prediction.stage_s, prediction.total_s,
        time.process_time() - cpu_s, peak_mib=peak_memory_mib(), notes=prediction.notes,
    )  # fmt: skip


def measure_process(path: Path, outputs: Path, configuration: Configuration, job: Job) -> Measurement:
    """One case as the challenge runs it: a fresh process, start-up, imports and model load included; not yet scored."""
    name = case_name(path)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = _command(path, outputs, report, configuration, job)
        reset_peak_memory()  # a child's peak starts, in the kernel's books, at what its parent's was
        start = time.perf_counter()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)
            total_s = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            message = errors.read().decode(errors="replace").strip()
        cpu_s, peak_mib = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        measured = Measurement(
            name, job.reading.modality or modality_of(name), configuration.title,
            total_s=total_s, cpu_s=cpu_s, peak_mib=peak_mib,
        )  # fmt: skip
        if process.returncode != 0:
            reason = message.splitlines()[0].removeprefix("error: ") if message else f"exit code {process.returncode}"
            return replace(measured, error=reason)
        if report.is_file():
            measured = _with_stages(measured, json.loads(report.read_text(encoding="utf-8")))
        return measured


def said(job: Job) -> dict[str, Any]:
    """What a user said of the cases, by the options' names; what nobody said is left out."""
    reading, prompting = job.reading, job.prompting
    options = {"modality": reading.modality, "window": reading.window, "boxes_from": prompting.boxes_from}
    return {name: value if isinstance(value, str) else str(value) for name, value in options.items() if value}


def baselines() -> dict[str, Callable[[Path, Path, Configuration], list[str]]]:
    """Name -> what makes the command line, of each program that installed packages offer for comparison."""
    return {entry.name: _loaded_late(entry) for entry in metadata.entry_points(group=BASELINES_GROUP)}


def _command(path: Path, outputs: Path, report: Path, configuration: Configuration, job: Job) -> list[str]:
    if configuration.baseline:
        return baselines()[configuration.baseline](path, outputs, configuration)
    keys = ("model", "backend", "precision", "threads", "method", "box_margin")
    given = {**{key: getattr(configuration, key) for key in keys}, **said(job)}
    options = [f"--{key.replace('_', '-')}={value}" for key, value in given.items() if value is not None]
    return [
        sys.executable,
        "-m",
        "edge",
        "predict",
        str(path),
        str(outputs),
        "-q",
        f"--report={report}",
        *FORM,
        *options,
    ]


def _loaded_late(entry: metadata.EntryPoint) -> Callable[[Path, Path, Configuration], list[str]]:
    def command(path: Path, outputs: Path, configuration: Configuration) -> list[str]:
        try:
            return entry.load()(path, outputs, configuration)
        except ImportError as error:
            raise RunError(f"{entry.name} needs {error.name}, which is not installed") from None

    return command


def _with_stages(measured: Measurement, report: dict[str, Any]) -> Measurement:
    """The measurement with what the process reported.

    `load` is the time the case waited for the model, which is loaded while it is read; `start` is the rest:
    interpreter, imports, exit.
    """
    (case,) = report["cases"]
    start_s = measured.total_s - case["waited_s"] - case["total_s"]
    return replace(
        measured,
        stage_s={"start": start_s, "load": case["waited_s"], **case["stage_s"]},
        boxes=case["boxes"],
        slices=case["slices"],
        notes=tuple(Note(**note) for note in case["notes"]),
        peak_mib=report["peak_mib"],  # the kernel's books for a child begin with the memory of its parent
    )


def _hash(path: Path, job: Job) -> str:
    """SHA-256 of a case's file; of several, as with a truth and boxes of their own, of theirs."""
    files = list(_files(path, job))
    hashes = [file_hash(file) for file in files]
    return hashes[0] if len(files) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _files(path: Path, job: Job) -> Iterator[Path]:
    """What is read for a case, in an order that stays: see `files_of`; then what gives its boxes."""
    with suppress(CaseError):  # which measuring it says
        yield from files_of(path)
        if boxes := box_source(path, job.prompting):
            yield boxes


def _scored(
    measured: Measurement, path: Path, outputs: Path, *, name: str, job: Job, spacing_order: SpacingOrder, seen: Seen
) -> Measurement:
    """The measurement with its scores, where the case has a truth."""
    try:
        case = read_with_truth(path, job.reading)
    except CaseError as error:
        return replace(measured, error=str(error))
    segs, _ = read_labels(outputs / f"{case_name(path)}.npz", "segs")
    boxes = measured.boxes or len(case.boxes)
    measured = replace(measured, modality=case.modality, shape=case.shape, boxes=boxes)
    if case.truth is not None:
        measured = _with_scores(measured, case, case.truth, segs, spacings(path, case.spacing_mm, spacing_order))
    if seen:
        seen(replace(measured, name=name), case, segs)
    return measured


def _with_scores(
    measured: Measurement,
    case: Case,
    drawn: npt.NDArray,
    segs: npt.NDArray,
    spacing: tuple[Spacing | None, Spacing | None],
) -> Measurement:
    truth, told = number_by_box(drawn, measured.boxes)
    scores = score_case(case.name, truth, segs, spacing[0], file_spacing=spacing[1])
    notes = (*measured.notes, *(Note(text) for text in (told and f"gts {told}", scores.note) if text))
    return replace(measured, dsc=scores.dsc, nsd_official=scores.nsd_official, nsd=scores.nsd, notes=notes)
