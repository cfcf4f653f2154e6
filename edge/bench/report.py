"""What `samedge bench` leaves to read: tables, JSON and CSV."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge.bench.run import NOISE, Measurement
from edge.bench.summary import SCORES, summarize
from edge.data.files import read_json, write_whole
from edge.data.table import format_table, number_or_blank
from edge.errors import RunError
from edge.notes import Note
from edge.reports.report import count, now, print_rows
from edge.reports.run_page import SCORE_TITLES, RunPage, Table, summed
from edge.reports.worst import Shown
from edge.system.machine import ARM, describe_machine

TIMED = ("read", "preprocess", "encode", "decode", "restore+merge", "save")
START = ("start", "load")  # before TIMED, of a process of its own: interpreter, imports and exit; the model


def bench_report(
    measurements: list[Measurement],
    engines: list[dict[str, Any]],
    *,
    per_process: bool,
    given: dict[str, Any],
    by: str = "modality",
) -> dict[str, Any]:
    """Everything `samedge bench` measured, and on what.

    Args:
        engines: from `edge.engines.runtime.describe_engine`.
        given: what a user said of the cases.
        by: the summary's groups, modality or dataset.
    """
    return {
        "created": now(),
        "machine": describe_machine(),
        "engines": engines,
        "per_process": per_process,
        "given": given,
        "cases": [asdict(measurement) for measurement in measurements],
        "by": by,
        "summary": summarize(measurements, by),
    }


def measured_before(
    path: Path, engines: list[dict[str, Any]], *, per_process: bool, given: dict[str, Any]
) -> list[Measurement]:
    """What an earlier run wrote to a JSON file and need not be measured again; nothing where there is no file.

    Raises:
        RunError: not such a file, or of another CPU, model, engine, kind of run or reading of the cases.
    """
    if not path.is_file():
        return []
    try:
        report = read_json(path)
        measurements = [_measurement(case) for case in report["cases"]]
        found = report["machine"]["cpu"], report["per_process"], report["engines"], report.get("given", {})
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{path}: not what samedge bench writes; give another --json file") from None
    if found != (describe_machine()["cpu"], per_process, engines, given):
        what = "another CPU, model, engine, kind of run or other options of the cases"
        raise RunError(f"{path}: holds times of {what}; give another --json file")
    return [measurement for measurement in measurements if not measurement.error]


def not_replaced(
    before: Sequence[Measurement], now: Sequence[Measurement], there: Collection[str]
) -> list[Measurement]:
    """Measurements of an earlier run that this one has not made anew, of cases that are still `there`, by name."""
    made = {(measured.name, measured.configuration) for measured in now}
    return [one for one in before if one.name in there and (one.name, one.configuration) not in made]


def _measurement(case: dict[str, Any]) -> Measurement:
    notes = tuple(Note(**note) for note in case.get("notes", ()))
    return Measurement(**{**case, "shape": tuple(case["shape"]), "ratio": None, "notes": notes})


def bench_page(report: dict[str, Any], worst: Sequence[Shown]) -> RunPage:
    """The report as a page."""
    done = [case for case in report["cases"] if not case["error"]]
    scores = dict.fromkeys(SCORE_TITLES, "score")
    times = {"seconds": "seconds", "cores": "seconds", "peak MiB": "number"}

    def numbers(row: dict[str, Any]) -> list[Any]:
        cores = row["cpu_s"] / row["total_s"] if row["total_s"] else None
        return [row["total_s"], cores, row["peak_mib"], *(row[key] for key in SCORES)]

    groups = [[row[report["by"]], row["configuration"], row["cases"], *numbers(row)] for row in report["summary"]]
    rows = [[case["name"], case["configuration"], case["boxes"], case["slices"], *numbers(case)] for case in done]
    runs = dict.fromkeys(case["configuration"] for case in done)
    return RunPage(
        "samedge bench",
        report,
        len(done),
        [f"{case['error']} [{case['configuration']}]" for case in report["cases"] if case["error"]],
        Table({report["by"]: "text", "run": "text", "cases": "number", **times, **scores}, groups),
        Table({"case": "text", "run": "text", "boxes": "number", "slices": "number", **times, **scores}, rows),
        {run: summed([case["stage_s"] for case in done if case["configuration"] == run]) for run in runs},
        worst,
    )


def print_bench(report: dict[str, Any]) -> None:
    """The report as tables on stdout."""
    machine = report["machine"]
    print(
        f"CPU {machine['cpu']}, {machine['cores']} cores, {' '.join(machine['flags']) or 'no vector extensions known'}"
    )
    if machine.get("architecture") in ARM:
        print("ARM: --precision auto never takes INT8, which OpenVINO computes wrongly here")
    for engine in report["engines"]:
        model = engine["model"]
        print(
            f"model {model['name']} ({model['sha256'][:12]}, {model['weights']} weights), {engine['backend']}, "
            f"computed in {engine['precision']}, {count(engine['threads'], 'thread', 's')}"
        )
    where = "each case's own process" if report["per_process"] else "this process during the case"
    print(f"seconds; cores: kept busy on average; peak MiB of {where}")
    several = len({case["configuration"] for case in report["cases"]}) > 1
    if several:
        print(f"ratio: total over that of {report['cases'][0]['configuration']}")
    print_rows(_case_rows(report["cases"], several=several, per_process=report["per_process"]))
    print()
    print_rows(_summary_rows(report["summary"], report["by"], several=several))
    if failed := {case["name"] for case in report["cases"] if case["error"]}:
        print(f"{count(len(failed), 'case', 's')} failed, left out of the means; samedge evaluate scores such a case 0")
    for line in _lost_lines(report["summary"], report["by"]):
        print(line)


def write_bench_csv(path: Path, measurements: list[Measurement]) -> None:
    """One row per case and configuration; times in seconds, memory in MiB.

    Raises:
        RunError: the file cannot be written.
    """
    header = ["case", "modality", "configuration", "shape", "boxes", "slices"]
    rows: list[list[object]] = [[*header, *START, *TIMED, "total", "cpu", "ratio", "peak_mib", *SCORES, "error"]]
    for m in measurements:
        stages = [f"{m.stage_s[stage]:.4f}" if stage in m.stage_s else "" for stage in (*START, *TIMED)]
        scores = [number_or_blank(getattr(m, key), 4) for key in SCORES]
        what = [m.name, m.modality, m.configuration, "x".join(map(str, m.shape)), m.boxes, m.slices]
        times = [*stages, f"{m.total_s:.4f}", f"{m.cpu_s:.4f}", number_or_blank(m.ratio, 3)]
        rows.append([*what, *times, f"{m.peak_mib:.1f}", *scores, m.error or ""])
    write_whole(path, format_table(rows))


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
        times = [number_or_blank(case["stage_s"].get(stage), 3) for stage in stages]
        rows.append([*row, *times, *_closing_columns(case, several)])
    return rows


def _summary_rows(summary: list[dict[str, Any]], by: str, *, several: bool) -> list[list[str]]:
    title = {"dataset": "data set"}.get(by, by)
    rows = [[title, *(["run"] if several else []), "cases", *_closing_titles(several)]]
    for row in summary:
        name = "all (scores: mean over modalities)" if row[by] == "all" else row[by]
        run = [row["configuration"]] if several else []
        rows.append([name, *run, str(row["cases"]), *_closing_columns(row, several)])
    return rows


def _lost_lines(summary: list[dict[str, Any]], by: str) -> list[str]:
    """What moved boxes cost, of each configuration that was also measured with the boxes as given."""
    dsc = {row["configuration"]: row["dsc"] for row in summary if row[by] == "all" and row["dsc"] is not None}
    given = {title: dsc.get(title.partition(f" {NOISE} ")[0]) for title in dsc if f" {NOISE} " in title}
    return [
        f"{title}: {100 * (before - dsc[title]):.1f} points of DSC lost, mean over modalities"
        for title, before in given.items()
        if before is not None
    ]


def _closing_titles(several: bool) -> list[str]:
    return ["total", *(["ratio"] if several else []), "cores", "peak", *SCORES]


def _closing_columns(row: dict[str, Any], several: bool) -> list[str]:
    ratio = [number_or_blank(row["ratio"], 2)] if several else []
    cores = number_or_blank(row["cpu_s"] / row["total_s"], 2) if row["total_s"] else ""
    scores = (number_or_blank(row[key], 3) for key in SCORES)
    return [f"{row['total_s']:.2f}", *ratio, cores, f"{row['peak_mib']:.0f}", *scores]
