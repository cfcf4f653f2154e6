"""How long each stage of each case takes, in how much memory, and how good the masks are."""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from edge.case import modality_of, read_case, read_labels
from edge.errors import CaseError
from edge.machine import peak_memory_mib, reset_peak_memory
from edge.predict import predict_cases
from edge.score import score_case
from edge.segmenter import Segmenter

SCORES = ("dsc", "nsd_official", "nsd")


@dataclass(frozen=True)
class Configuration:
    """What is benchmarked: the options of `samedge predict` that change time or masks."""

    model: Path
    backend: str = "openvino"
    precision: str = "f32"
    threads: int | None = None  # None: the cores this process may use
    mode: str = "fast"
    volume: str = "propagate"

    @property
    def title(self) -> str:
        unusual = [word for word in (self.mode, self.volume) if word not in ("fast", "propagate")]
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
    stage_s: dict[str, float] = field(default_factory=dict)  # empty when measured from outside the process
    total_s: float = 0.0  # in one process: read to saved; in a process of its own: its whole wall time
    peak_mib: float = 0.0
    dsc: float | None = None  # None: no truth in the file; NaN: see edge.score
    nsd_official: float | None = None
    nsd: float | None = None


def measure_here(path: Path, configuration: Configuration, segmenter: Segmenter) -> Measurement:
    """One case in this process with a loaded model."""
    with tempfile.TemporaryDirectory() as outputs:
        reset_peak_memory()
        (prediction,) = predict_cases([path], Path(outputs), lambda: segmenter)
        measured = Measurement(
            prediction.name, modality_of(prediction.name), configuration.title, prediction.error, prediction.shape,
            prediction.boxes, prediction.slices, prediction.stage_s, prediction.total_s, peak_memory_mib(),
        )  # fmt: skip
        return measured if prediction.error else _scored(measured, path, Path(outputs))


def measure_process(path: Path, configuration: Configuration) -> Measurement:
    """One case as the challenge runs it: a fresh process, start-up, imports and model load included."""
    name = path.stem
    with tempfile.TemporaryDirectory() as outputs:
        options = [f"--{key}={value}" for key, value in asdict(configuration).items() if value is not None]
        command = [sys.executable, "-m", "edge", "predict", str(path), outputs, "-q", *options]
        start = time.perf_counter()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)
            total_s = time.perf_counter() - start
            process.returncode = os.waitstatus_to_exitcode(status)
            errors.seek(0)
            message = errors.read().decode(errors="replace").strip()
        measured = Measurement(
            name, modality_of(name), configuration.title, total_s=total_s, peak_mib=usage.ru_maxrss / 1024
        )
        if process.returncode != 0:
            reason = message.splitlines()[0].removeprefix("error: ") if message else f"exit code {process.returncode}"
            return replace(measured, error=reason)
        return _scored(measured, path, Path(outputs))


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


def _row(title: str, modality: str, chosen: list[Measurement], scores: dict[str, float | None]) -> dict[str, Any]:
    total_s = sum(m.total_s for m in chosen)
    peak_mib = max((m.peak_mib for m in chosen), default=0.0)
    return {
        "configuration": title,
        "modality": modality,
        "cases": len(chosen),
        "total_s": total_s,
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
    return replace(measured, dsc=scores.dsc, nsd_official=scores.nsd_official, nsd=scores.nsd)
