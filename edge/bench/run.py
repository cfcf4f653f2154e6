"""How long each stage of each case takes, in how much memory, and how good the masks are."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any

from edge.choices import BOX_MARGIN_PX
from edge.data.case import modality_of, read_case, read_labels
from edge.data.folders import label_of, labelled
from edge.engines.model_folder import file_hash
from edge.errors import CaseError, RunError
from edge.notes import Note
from edge.predict import predict_cases
from edge.scoring.score import score_case
from edge.segmenter import Segmenter
from edge.system.machine import peak_memory_mib, reset_peak_memory

SCORES = ("dsc", "nsd_official", "nsd")
BASELINES_GROUP = "samedge.baselines"  # entry points: (case, folder for its result, Configuration) -> command line


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

    @property
    def title(self) -> str:
        if self.baseline:
            return self.baseline
        unusual = [] if self.method == "auto" else [self.method]
        unusual += [] if self.box_margin == BOX_MARGIN_PX else [f"margin {self.box_margin:g}"]
        return " ".join([self.backend, self.precision, *unusual])


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
    case_sha256: str = ""  # of the case file, by which a later run knows that nothing has changed

    @property
    def key(self) -> tuple[str, str]:
        """What tells measurements apart: which file, under which configuration."""
        return self.case_sha256, self.configuration


def measure_all(
    paths: list[Path],
    segmenters: Mapping[Configuration, Segmenter | None],
    before: Sequence[Measurement] = (),
    root: Path | None = None,
) -> Iterator[Measurement]:
    """Every case under every configuration in turn, so that what slows the machine down slows all of them.

    Args:
        segmenters: of each configuration to run; where it is None, cases run in processes of their own.
        before: measurements of an earlier run, which are taken over.
        root: a case's name is its place below this folder; None: its file's name.
    """
    known = {measurement.key: measurement for measurement in before}
    for path in paths:
        sha256, name = file_hash(path), label_of(path, root or path.parent)
        for configuration, segmenter in segmenters.items():
            if (sha256, configuration.title) in known:
                measured = known[sha256, configuration.title]
            elif segmenter is None:
                measured = measure_process(path, configuration)
            else:
                measured = measure_here(path, configuration, segmenter)
            error = measured.error and labelled(measured.error, path, name)
            yield replace(measured, name=name, error=error, case_sha256=sha256)


def measure_here(path: Path, configuration: Configuration, segmenter: Segmenter) -> Measurement:
    """One case in this process with a loaded model."""
    with tempfile.TemporaryDirectory() as outputs:
        reset_peak_memory()
        cpu_s = time.process_time()
        (prediction,) = predict_cases([path], Path(outputs), lambda: segmenter)
        measured = Measurement(
            prediction.name, modality_of(prediction.name), configuration.title, prediction.error, prediction.shape,
            prediction.boxes, prediction.slices, prediction.stage_s, prediction.total_s, time.process_time() - cpu_s,
            peak_mib=peak_memory_mib(), notes=prediction.notes,
        )  # fmt: skip
        return measured if prediction.error else _scored(measured, path, Path(outputs))


def measure_process(path: Path, configuration: Configuration) -> Measurement:
    """One case as the challenge runs it: a fresh process, start-up, imports and model load included."""
    name = path.stem
    with tempfile.TemporaryDirectory() as folder:
        outputs, report = Path(folder) / "outputs", Path(folder) / "report.json"
        outputs.mkdir()
        command = _command(path, outputs, report, configuration)
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
            name, modality_of(name), configuration.title, total_s=total_s, cpu_s=cpu_s, peak_mib=peak_mib
        )
        if process.returncode != 0:
            reason = message.splitlines()[0].removeprefix("error: ") if message else f"exit code {process.returncode}"
            return replace(measured, error=reason)
        if report.is_file():
            measured = _with_stages(measured, json.loads(report.read_text(encoding="utf-8")))
        return _scored(measured, path, outputs)


def baselines() -> dict[str, Callable[[Path, Path, Configuration], list[str]]]:
    """Name -> what makes the command line, of each program that installed packages offer for comparison."""
    return {entry.name: _loaded_late(entry) for entry in metadata.entry_points(group=BASELINES_GROUP)}


def with_ratios(measurements: list[Measurement]) -> list[Measurement]:
    """Each measurement with its total over that of the first configuration on the same case, where both succeeded."""
    title = measurements[0].configuration if measurements else None
    first = {m.name: m.total_s for m in measurements if m.configuration == title and not m.error}
    return [m if m.error or m.name not in first else replace(m, ratio=m.total_s / first[m.name]) for m in measurements]


def summarize(measurements: list[Measurement]) -> list[dict[str, Any]]:
    """Per configuration: a row per modality, then one over all; seconds are sums, scores means over cases.

    The last row's scores are the unweighted mean over modalities, as the challenge publishes them.
    """
    rows = []
    for title in dict.fromkeys(m.configuration for m in measurements):
        done = [m for m in measurements if m.configuration == title and not m.error]
        per_modality = []
        for modality in sorted({m.modality for m in done}):
            chosen = [m for m in done if m.modality == modality]
            scores = {key: _mean([getattr(m, key) for m in chosen]) for key in SCORES}
            per_modality.append(_row(title, modality, chosen, scores))
        overall = {key: _mean([row[key] for row in per_modality]) for key in SCORES}
        rows += [*per_modality, _row(title, "all", done, overall)]
    return rows


def _command(path: Path, outputs: Path, report: Path, configuration: Configuration) -> list[str]:
    if configuration.baseline:
        return baselines()[configuration.baseline](path, outputs, configuration)
    keys = ("model", "backend", "precision", "threads", "method", "box_margin")
    given = {key: getattr(configuration, key) for key in keys}
    options = [f"--{key.replace('_', '-')}={value}" for key, value in given.items() if value is not None]
    return [sys.executable, "-m", "edge", "predict", str(path), str(outputs), "-q", f"--report={report}", *options]


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
        slices=case["slices"],
        notes=tuple(Note(**note) for note in case["notes"]),
        peak_mib=report["peak_mib"],  # the kernel's books for a child begin with the memory of its parent
    )


def _row(title: str, modality: str, chosen: list[Measurement], scores: dict[str, float | None]) -> dict[str, Any]:
    total_s = sum(m.total_s for m in chosen)
    peak_mib = max((m.peak_mib for m in chosen), default=0.0)
    compared = [m for m in chosen if m.ratio]
    first_s = sum(m.total_s / m.ratio for m in compared if m.ratio)
    return {
        "configuration": title,
        "modality": modality,
        "cases": len(chosen),
        "total_s": total_s,
        "cpu_s": sum(m.cpu_s for m in chosen),
        "ratio": sum(m.total_s for m in compared) / first_s if first_s else None,
        "peak_mib": peak_mib,
        **scores,
    }


def _mean(values: list[float | None]) -> float | None:
    """Mean of the values that are numbers; None where there are none."""
    numbers = [value for value in values if value is not None and value == value]
    return fmean(numbers) if numbers else None


def _scored(measured: Measurement, path: Path, outputs: Path) -> Measurement:
    """The measurement with its scores, where the case file holds a truth."""
    try:
        case = read_case(path, with_truth=True)
    except CaseError as error:
        return replace(measured, error=str(error))
    segs, _ = read_labels(outputs / f"{path.stem}.npz", "segs")
    measured = replace(measured, shape=case.shape, boxes=len(case.boxes))
    if case.truth is None:
        return measured
    scores = score_case(case.name, case.truth, segs, case.spacing_mm)
    notes = (*measured.notes, Note(scores.note)) if scores.note else measured.notes
    return replace(measured, dsc=scores.dsc, nsd_official=scores.nsd_official, nsd=scores.nsd, notes=notes)
