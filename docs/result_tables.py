"""The tables of measured numbers: a report, which a command wrote as JSON, as lines of Markdown.

Each function takes all reports that are there, by file name without `.json`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Any

from measure.cluster import WORKERS, speedup

TITLES = {"val": "samedge", "public": "public LiteMedSAM", "ellipse": "inscribed ellipse"}  # JSON file -> its column
# JSON file -> its column among volumes
BOUNDS_3D = {"public": "public LiteMedSAM, its way", "ellipse": "ellipsoid", "oracle": "true box on each slice"}
PUBLIC_PROGRAM = "public-program"  # the configuration of `samedge bench` that is the public program's way of working
SCORES = ("dsc", "nsd")

Report = dict[str, Any]
Reports = dict[str, Report]


def summary(reports: Reports) -> list[str]:
    """README: what a user waits for, what it takes, how good it is, beside what there was before."""
    timed = "process" if "process" in reports else "bench"
    report = reports[timed]
    chosen = [name for name in TITLES if name in reports or name == "val"]
    programs = {"val": _configurations(report)[0], "public": PUBLIC_PROGRAM}
    rows = [["", "seconds, 2D", "seconds, 3D", "peak MiB", "DSC", "NSD"]]
    for name in chosen:
        cases = [case for case in report["cases"] if case["configuration"] == programs.get(name)]
        seconds = [_median(case["total_s"] for case in cases if len(case["shape"]) == axes) for axes in (2, 3)]
        peak = f"{max(case['peak_mib'] for case in cases):.0f}" if cases else ""
        mean = reports[name]["mean"] if name in reports else {}
        rows.append([TITLES[name], *seconds, peak, *(_number(mean.get(key)) for key in SCORES)])
    measured = f"Seconds: medians of the phantoms in `cases/`, {_kind(report)}; {_measured_on(report, timed)}."
    if scored := [reports[name] for name in chosen if name in reports]:
        measured += f" DSC, NSD: means over modalities of {len(scored[0]['cases'])} public cases."
    return [*markdown(rows), "", measured]


def times(reports: Reports, name: str) -> list[str]:
    """Every phantom: its size, seconds of each configuration, memory, scores."""
    report = reports[name]
    titles = _configurations(report)
    rows = [["case", "size", "boxes", *(f"seconds, {title}" for title in titles), "peak MiB", "DSC", "NSD"]]
    by_name: dict[str, dict[str, Report]] = {}
    for case in report["cases"]:
        by_name.setdefault(case["name"], {})[case["configuration"]] = case
    for case_name, cases in by_name.items():
        first = cases[titles[0]]
        seconds = [_number(cases[title]["total_s"], 2) if title in cases else "" for title in titles]
        size = " x ".join(map(str, first["shape"]))
        scores = [_number(first[key]) for key in SCORES]
        rows.append([case_name, size, str(first["boxes"]), *seconds, f"{first['peak_mib']:.0f}", *scores])
    return [*markdown(rows), "", f"{_kind(report).capitalize()}; {_measured_on(report, name)}."]


def stages(reports: Reports) -> list[str]:
    """Where the time of all phantoms together went."""
    report = reports["bench"]
    cases = [case for case in report["cases"] if case["configuration"] == _configurations(report)[0]]
    names = list(cases[0]["stage_s"])
    sums = {name: sum(case["stage_s"].get(name, 0.0) for case in cases) for name in names}
    total = sum(case["total_s"] for case in cases)
    rows = [["stage", "seconds", "share"]]
    rows += [[name, f"{seconds:.2f}", f"{100 * seconds / total:.0f} %"] for name, seconds in sums.items()]
    return [*markdown(rows), "", f"Of {len(cases)} cases in {total:.1f} s; {_measured_on(report, 'bench')}."]


def validation(reports: Reports) -> list[str]:
    """Every modality: DSC and NSD of each program that was scored on the same cases."""
    chosen = {name: reports[name] for name in TITLES if name in reports}
    header = [f"{key.upper()}, {TITLES[name]}" for key in SCORES for name in chosen]
    rows = [["modality", "cases", *header]]
    for means in [*chosen["val"]["modalities"], chosen["val"]["mean"]]:
        row = [means["name"], str(_cases(chosen["val"], means))]
        for key in SCORES:
            row += [_number(_means_of(report, means["name"]).get(key)) for report in chosen.values()]
        rows.append(row)
    told = [f"{TITLES[name]}: {_scored(report, name)}" for name, report in chosen.items()]
    return [*markdown(rows), "", "; ".join(told) + "."]


def volumes(reports: Reports) -> list[str]:
    """Every data set of volumes: DSC of each way through a volume, of the ellipsoid and of the true boxes."""
    from edge.data.modality import dataset_in_name

    report = reports["volumes"]
    titles = _configurations(report)
    ways = {
        _distinct_words(title, titles): {c["name"]: c["dsc"] for c in report["cases"] if c["configuration"] == title}
        for title in titles
    }
    for name, title in BOUNDS_3D.items():
        if name in reports:
            ways[title] = {case["name"]: case["dsc"] for case in reports[name]["cases"]}
    groups: dict[str, dict[tuple[str, str], list[str]]] = {"sets": {}, "modalities": {}, "all": {}}
    for name, modality in sorted({case["name"]: case["modality"] for case in report["cases"]}.items()):
        groups["sets"].setdefault((modality, dataset_in_name(name)), []).append(name)
        groups["modalities"].setdefault((modality, "all"), []).append(name)
        groups["all"].setdefault(("all", ""), []).append(name)
    rows = [["modality", "data set", "volumes", *(f"DSC, {title}" for title in ways)]]
    for (modality, dataset), names in [group for kind in groups.values() for group in sorted(kind.items())]:
        means = [_number(_mean(found.get(name) for name in names)) for found in ways.values()]
        rows.append([modality, dataset, str(len(names)), *means])
    seconds = [sum(c["total_s"] for c in report["cases"] if c["configuration"] == title) for title in titles]
    told_s = [*(f"{total:.0f}" for total in seconds), *[""] * (len(ways) - len(titles))]
    rows.append(["all", "seconds together", str(len(groups["all"]["all", ""])), *told_s])
    told = f"Means over volumes; {_measured_on(report, 'volumes')}"
    files = [f"{BOUNDS_3D[name]}: {_source(reports[name], name)}" for name in BOUNDS_3D if name in reports]
    return [*markdown(rows), "", "; ".join([told, *files]) + "."]


def growth(reports: Reports) -> list[str]:
    """What grows, and what each more of it costs: the same in every row of what grows in a straight line."""
    report = reports["growth"]
    rows = [["what grows", "", "seconds", "CPU seconds", "CPU ms for each more", "peak MiB"]]
    before: Report | None = None
    for case in report["cases"]:
        more = ""
        if before and before["axis"] == case["axis"]:
            more = _number(1000 * (case["cpu_s"] - before["cpu_s"]) / (case["at"] - before["at"]), 1)
        times = [_number(case["total_s"], 2), _number(case["cpu_s"], 2)]
        rows.append([case["axis"], f"{case['at']:.4g}", *times, more, f"{case['peak_mib']:.0f}"])
        before = case
    return [*markdown(rows), "", f"{_kind(report).capitalize()}; {_measured_on(report, 'growth')}."]


def cluster(reports: Reports) -> list[str]:
    """What a second worker of a Dask cluster brings."""
    report = reports["cluster"]
    ratios = speedup(report["pairs"])
    rows = [["workers of one thread", "seconds, median", "cases a second"]]
    for workers in WORKERS:
        seconds = median(pair[f"{workers}_s"] for pair in report["pairs"])
        rows.append([str(workers), _number(seconds, 2), _number(report["cases_each"] / seconds, 2)])
    told = f"{median(ratios):.2f} times as fast, {ratios[0]:.2f} to {ratios[-1]:.2f} in {len(ratios)} pairs"
    return [*markdown(rows), "", f"{told}; {_machine(report['machine'])}; [cluster.json](RESULTS/cluster.json)."]


def many_cases(reports: Reports) -> list[str]:
    """A process that segments case after case: what it holds."""
    report = reports["growth"]
    rows = [["cases done", "resident MiB", "seconds since the one above, for each case"]]
    done, seconds = 0, 0.0
    for point in report["process"]:
        each = (point["s"] - seconds) / (point["cases"] - done)
        rows.append([str(point["cases"]), f"{point['resident_mib']:.0f}", _number(each)])
        done, seconds = point["cases"], point["s"]
    return [*markdown(rows), "", f"{_measured_on(report, 'growth')}."]


def training_size(reports: Reports) -> list[str]:
    """What training on more images takes before its first step."""
    report = reports["training-size"]
    rows = [["images", "bytes of each in memory", "CPU s to open", "CPU s for the tables", "CPU us of a draw"]]
    for size in report["sizes"]:
        seconds = [_number(size[key], 2) for key in ("open_s", "tables_s")]
        rows.append([str(size["images"]), f"{size['bytes_each']:.0f}", *seconds, _number(size["draw_us"], 1)])
    return [*markdown(rows), "", f"{_machine(report['machine'])}; [training-size.json](RESULTS/training-size.json)."]


def measured(
    reports: Reports, name: str, table: Callable[[Report], list[list[str]]], told: str | Callable[[Report], str] = ""
) -> list[str]:
    """What the module that wrote `name`.json makes of it.

    Args:
        table: the report -> rows of texts, header first.
        told: before what it was measured on; in a text {key} is the report's.
    """
    report = reports[name]
    of_model = isinstance(next(iter(report.get("engines", ())), None), dict)
    where = _measured_on(report, name) if of_model else f"{_machine(report['machine'])}; {_link(name)}"
    before = told(report) if callable(told) else told.format(**report)
    return [*markdown(table(report)), "", f"{before}{where}."]


def peaks(report: Report) -> str:
    """Of the machine, by precision."""
    found = ", ".join(f"{precision} {gops:.0f}" for precision, gops in report["peak_gops"].items())
    return f"Of the largest product, 10^9 operations a second: {found}; "


def started(report: Report) -> str:
    """Which case, and what it takes beside another commit."""
    from measure.startup import pairs_text

    told = pairs_text(report)
    return f"{report['case']}, medians of {report['rounds']} fresh processes; {told and told + '; '}"


def claims_table(report: Report) -> list[list[str]]:
    """What each way gains over another, on the same cases."""
    rows = [["way", "against", "on", "cases", "DSC", "DSC, the other", "points gained", "95 % interval"]]
    for one in report["claims"]:
        gain, low, high = (f"{100 * value:+.1f}" for value in (one["difference"], *one["interval"]))
        scores = [_number(one["dsc"]), _number(one["other_dsc"])]
        rows.append([one["way"], one["other"], one["on"], str(one["cases"]), *scores, gain, f"{low} to {high}"])
    return rows


def trained_table(report: Report) -> list[list[str]]:
    """How much each way of training trains, and the DSC of each of its seeds."""
    rows = [["way", "parameters that train", "DSC over cases, by seed", "DSC over modalities, by seed"]]
    for name, way in report["training"]["ways"].items():
        scores = [", ".join(map(_number, way[key])) for key in ("dsc", "dsc_of_modalities")]
        rows.append([name, f"{way['trainable']:,}", *scores])
    return rows


def _configurations(report: Report) -> list[str]:
    return list(dict.fromkeys(case["configuration"] for case in report["cases"]))


def _distinct_words(title: str, titles: Sequence[str]) -> str:
    """What tells a configuration from the others: `tracked` of `openvino auto tracked`."""
    shared = set.intersection(*(set(other.split()) for other in titles))
    return " ".join(word for word in title.split() if word not in shared) or title


def _kind(report: Report) -> str:
    return "a fresh process for each case" if report["per_process"] else "model loaded, read to saved"


def _measured_on(report: Report, name: str) -> str:
    engine = report["engines"][0] if report["engines"] else None
    return f"{_machine(report['machine'])}, {_engine(engine)}; [{name}.json](RESULTS/{name}.json)"


def _source(report: Report, name: str) -> str:
    prediction = (report.get("prediction") or {}).get("engine")
    engines = [f"{_engine(engine)}, " for engine in [*report.get("engines", ()), prediction] if engine]
    return f"{''.join(engines)}[{name}.json](RESULTS/{name}.json)"


def _scored(report: Report, name: str) -> str:
    engine = (report.get("prediction") or {}).get("engine")
    return f"{_engine(engine)}; [{name}.json](RESULTS/{name}.json)" if engine else f"[{name}.json](RESULTS/{name}.json)"


def _link(name: str) -> str:
    return f"[{name}.json](RESULTS/{name}.json)"


def _machine(machine: Report) -> str:
    flags = ", ".join(machine["flags"]) or "no vector extensions"
    return f"{machine['cpu'].replace('(R)', '')} ({machine['cores']} cores, {flags})"


def _engine(engine: Report | None) -> str:
    if engine is None:
        return "PyTorch"
    model = engine["model"]
    threads = f"{engine['threads']} thread{'s' if engine['threads'] != 1 else ''}"
    return f"{engine['backend']}, {engine['precision']}, {threads}, model {model['name']} `{model['sha256'][:12]}`"


def _means_of(report: Report, name: str) -> Report:
    means: Iterable[Report] = [*report["modalities"], report["mean"]]
    return next((one for one in means if one["name"] == name), {})


def _cases(report: Report, means: Report) -> int:
    return int(means["count"]) if means is not report["mean"] else len(report["cases"])


def _median(values: Iterable[float]) -> str:
    found = list(values)
    return _number(median(found), 2) if found else ""


def _mean(values: Iterable[float | None]) -> float | None:
    """Of the values that are known; None: there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None or value != value else f"{value:.{digits}f}"


def markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table: header first; columns of numbers right aligned."""
    numeric = [all(re.fullmatch(r"([\d.]+( %)?)?", row[i]) for row in rows[1:]) for i in range(len(rows[0]))]
    rule = ["---:" if right else "---" for right in numeric]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in [escaped[0], rule, *escaped[1:]]]
