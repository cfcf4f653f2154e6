"""What a run leaves to read: one line per case, tables, JSON and CSV, with what the numbers were measured on."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.bench import SCORES, Measurement, summarize
from edge.machine import describe_machine
from edge.model_folder import model_hash
from edge.npz import write_whole
from edge.predict import Prediction
from edge.runtime import Engine

if TYPE_CHECKING:
    from edge.segmenter import Segmenter

TIMED = ("read", "preprocess", "encode", "decode", "restore+merge", "save")
START = ("start", "load")  # before TIMED, of a process of its own: interpreter, imports and exit; the model


def describe_engine(engine: Engine) -> dict[str, Any]:
    """The model by name and hash, the backend with its version, what precision ran, threads."""
    model = {
        "name": engine.description.name,
        "sha256": model_hash(engine.description),
        "weights": engine.description.weights,
    }
    return {"model": model, "backend": engine.backend, "precision": engine.precision, "threads": engine.threads}


def run_report(predictions: list[Prediction], skipped: list[str], segmenter: "Segmenter | None") -> dict[str, Any]:
    """The manifest of `samedge predict`: machine, engine, options, every case."""
    return {
        "created": _now(),
        "machine": describe_machine(),
        "engine": describe_engine(segmenter.engine) if segmenter else None,
        "options": asdict(segmenter.options) if segmenter else None,
        "load_s": segmenter.load_s if segmenter else 0.0,
        "cases": [asdict(prediction) for prediction in predictions]
        + [{"name": n, "status": "skipped"} for n in skipped],
    }


def bench_report(measurements: list[Measurement], engines: Sequence[Engine], *, per_process: bool) -> dict[str, Any]:
    """Everything `samedge bench` measured, and on what."""
    return {
        "created": _now(),
        "machine": describe_machine(),
        "engines": [describe_engine(engine) for engine in engines],
        "per_process": per_process,
        "cases": [asdict(measurement) for measurement in measurements],
        "summary": summarize(measurements),
    }


def prediction_line(prediction: Prediction) -> str:
    """One line of `samedge predict` for a finished case."""
    size = " x ".join(str(length) for length in prediction.shape)
    return f"{prediction.name}: {size}, {_count(prediction.boxes, 'box', 'es')}, {prediction.total_s:.2f} s"


def print_bench(report: dict[str, Any]) -> None:
    """The report as tables on stdout."""
    machine = report["machine"]
    print(
        f"CPU {machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags']) or 'no vector extensions known'}"
    )
    for engine in report["engines"]:
        model = engine["model"]
        print(
            f"model {model['name']} ({model['sha256'][:12]}, {model['weights']} weights), {engine['backend']}, "
            f"computed in {engine['precision']}, {_count(engine['threads'], 'thread', 's')}"
        )
    where = "each case's own process" if report["per_process"] else "this process during the case"
    print(f"seconds; cores: kept busy on average; peak MiB of {where}")
    several = len({case["configuration"] for case in report["cases"]}) > 1
    if several:
        print(f"ratio: total over that of {report['cases'][0]['configuration']}")
    print_rows(_case_rows(report["cases"], several=several, per_process=report["per_process"]))
    print()
    print_rows(_summary_rows(report["summary"], several=several))


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: header first, first column left, the others right aligned; plain text in a pipe."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, title in enumerate(rows[0]):
        table.add_column(title, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 240
    console.print(table)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """JSON to a file, whole or not at all, or to stdout for '-'; NaN becomes null.

    Raises:
        RunError: the file cannot be written.
    """
    text = json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n"
    if path == Path("-"):
        sys.stdout.write(text)
    else:
        write_whole(path, text.encode())


def write_bench_csv(path: Path, measurements: list[Measurement]) -> None:
    """One row per case and configuration; times in seconds, memory in MiB.

    Raises:
        RunError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ["case", "modality", "configuration", "shape", "boxes", "slices"]
    writer.writerow([*header, *START, *TIMED, "total", "cpu", "ratio", "peak_mib", *SCORES, "error"])
    for m in measurements:
        stages = [f"{m.stage_s[stage]:.4f}" if stage in m.stage_s else "" for stage in (*START, *TIMED)]
        scores = [_number(getattr(m, key), 4) for key in SCORES]
        what = [m.name, m.modality, m.configuration, "x".join(map(str, m.shape)), m.boxes, m.slices]
        times = [*stages, f"{m.total_s:.4f}", f"{m.cpu_s:.4f}", _number(m.ratio, 3)]
        writer.writerow([*what, *times, f"{m.peak_mib:.1f}", *scores, m.error or ""])
    write_whole(path, text.getvalue().encode())


def _case_rows(cases: list[dict[str, Any]], *, several: bool, per_process: bool) -> list[list[str]]:
    stages = (*START, *TIMED) if per_process else TIMED
    keys = [*(["run"] if several else []), "boxes", "slices", *stages]
    rows = [["case", *keys, *_closing_titles(several)]]
    for case in cases:
        row = [case["name"], *([case["configuration"]] if several else [])]
        if case["error"]:
            rows.append([*row, "failed", *[""] * (len(rows[0]) - len(row) - 1)])
            continue
        row += [str(case["boxes"]), str(case["slices"] or "")]
        times = [_number(case["stage_s"].get(stage), 3) for stage in stages]
        rows.append([*row, *times, *_closing_columns(case, several)])
    return rows


def _summary_rows(summary: list[dict[str, Any]], *, several: bool) -> list[list[str]]:
    rows = [["modality", *(["run"] if several else []), "cases", *_closing_titles(several)]]
    for row in summary:
        name = "all (scores: mean over modalities)" if row["modality"] == "all" else row["modality"]
        run = [row["configuration"]] if several else []
        rows.append([name, *run, str(row["cases"]), *_closing_columns(row, several)])
    return rows


def _closing_titles(several: bool) -> list[str]:
    return ["total", *(["ratio"] if several else []), "cores", "peak", *SCORES]


def _closing_columns(row: dict[str, Any], several: bool) -> list[str]:
    ratio = [_number(row["ratio"], 2)] if several else []
    cores = _number(row["cpu_s"] / row["total_s"], 2) if row["total_s"] else ""
    scores = (_number(row[key], 3) for key in SCORES)
    return [f"{row['total_s']:.2f}", *ratio, cores, f"{row['peak_mib']:.0f}", *scores]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or value != value else f"{value:.{digits}f}"


def _count(number: int, word: str, plural: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else plural)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
