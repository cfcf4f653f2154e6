"""`samedge bench`: seconds, memory and scores, of one configuration or several."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edge.choices import BACKENDS, BOX_MARGIN_PX, METHODS, PRECISIONS
from edge.commands import options
from edge.commands.group import command_app, fail, write_all
from edge.commands.notes import Notes
from edge.errors import RunError

if TYPE_CHECKING:
    import numpy.typing as npt

    from edge.bench.run import Configuration
    from edge.data.case import Case
    from edge.segmenter import Segmenter


app = command_app()


@app.command()
def bench(
    cases: Annotated[Path, typer.Argument(help="Folder of cases of any kind with their boxes, or one.")],
    model: options.ModelOption = None,
    backend: options.BackendOption = "openvino",
    precision: options.PrecisionOption = "auto",
    threads: options.ThreadsOption = None,
    method: options.MethodOption = "auto",
    box_margin: options.MarginOption = BOX_MARGIN_PX,
    compare: Annotated[
        str | None,
        typer.Option(
            help="In turn, such as openvino:f32,openvino:bf16:baseline,onnxruntime; public-program: see below."
        ),
    ] = None,
    box_noise: Annotated[
        str | None,
        typer.Option(
            help="Also with every side of every box moved by up to this many % of its extent, such as 5,10,20."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="What public-program runs with; random weights, as fast, if not given.")
    ] = None,
    boxes_from: options.BoxesFromOption = None,
    modality: options.ModalityOption = None,
    window: options.WindowOption = None,
    spacing_order: options.SpacingOrderOption = "xyz",
    process: Annotated[bool, typer.Option(help="A fresh process per case, as the challenge does.")] = False,
    recursive: options.RecursiveOption = False,
    match: Annotated[str, typer.Option(help="Only cases whose name is like this, such as '2DBox_*'.")] = "*",
    by: Annotated[Literal["modality", "dataset"], typer.Option(help="What the summary has a row for.")] = "modality",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all measurements here ('-': stdout).")] = None,
    resume: Annotated[bool, typer.Option(help="Take over what --json's file already holds, measure the rest.")] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write one row per case here.")] = None,
    html_file: options.HtmlOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Time every case stage by stage, with peak memory and, where the file holds the truth, DSC and NSD.

    With --process, --compare also takes public-program: the public baseline as it is, in PyTorch, the encoder again for
    every box of every slice, box by box (needs the export extra).
    """
    from edge.bench.report import bench_page, bench_report, measured_before, not_replaced, print_bench, write_bench_csv
    from edge.bench.run import JOB, Configuration, Measurement, measure_all, said
    from edge.bench.summary import with_ratios
    from edge.data.files import file_hash
    from edge.data.folders import label_of
    from edge.data.formats.finding import find_inputs
    from edge.data.names import INPUTS, case_name
    from edge.data.prompting import Prompting
    from edge.data.scan import Reading
    from edge.engines.model_folder import DEFAULT_MODEL
    from edge.engines.runtime import describe_engine
    from edge.reports.progress import track
    from edge.reports.report import write_json
    from edge.reports.run_page import write_run_page
    from edge.reports.worst import Worst

    base = Configuration(model or DEFAULT_MODEL, backend, precision, threads, method, box_margin, checkpoint=checkpoint)
    options.check_reports(html_file, csv_file, json_file)
    job = replace(JOB, reading=Reading(modality, window), prompting=Prompting(boxes_from=boxes_from))
    given = {**said(job), **({} if spacing_order == "xyz" else {"spacing_order": spacing_order})}
    if checkpoint:
        given["checkpoint"] = file_hash(checkpoint) if checkpoint.is_file() else str(checkpoint)
    configurations = _with_noise(_compared(base, compare), box_noise)
    file = None if json_file == Path("-") else json_file
    if resume and file is None:
        raise RunError("--resume goes on with a file: add --json FILE")
    cases = options.located(cases)
    there = find_inputs(cases, recursive=recursive)
    paths = [path for path in there if fnmatch(case_name(path), match)]
    if not recursive and not quiet:
        options.warn_of_nested(cases, INPUTS)
    if not paths:
        raise RunError(f"{cases}: no case's name is like {match!r}")
    loaded = _segmenters(configurations, process)
    engines = [describe_engine(one.engine) for one in dict.fromkeys(loaded.values()) if one]
    if process:  # their memory and threads are not to weigh on what is measured
        loaded = dict.fromkeys(loaded)
    before = measured_before(file, engines, per_process=process, given=given) if resume and file else []
    names = {label_of(path, cases) for path in there}
    told: dict[str, Any] = {"per_process": process, "given": given, "by": by}
    measurements: list[Measurement] = []
    notes = Notes(quiet=quiet)
    worst = Worst()

    def show(measured: Measurement, case: "Case", labels: "npt.NDArray") -> None:
        said = "" if measured.dsc is None else f"DSC {measured.dsc:.3f}, {measured.configuration}"
        worst.keep(measured.name, measured.dsc, said, case, labels)

    seen = show if html_file else None
    measuring = measure_all(paths, loaded, before, cases, job=job, spacing_order=spacing_order, seen=seen)
    for measured in track(measuring, len(paths) * len(loaded), quiet=quiet):
        notes.tell(measured.name, measured.notes)
        measurements = with_ratios([*measurements, measured])
        if file:  # each time, for --resume, with what was measured before
            known = with_ratios([*measurements, *not_replaced(before, measurements, names)])
            write_json(file, bench_report(known, engines, **told))
    notes.close()
    report = bench_report(measurements, engines, **told)
    if html_file and {one.key for one in before} & {one.key for one in measurements} and not quiet:
        print("warning: the page has pictures of the cases that were measured now alone", file=sys.stderr)
    if json_file == Path("-"):
        write_json(json_file, report)
    else:
        print_bench(report)
    failures = write_all(
        [
            (csv_file, lambda file: write_bench_csv(file, measurements)),
            (html_file, lambda file: write_run_page(file, bench_page(report, worst.shown))),
        ]
    )
    fail([*(f"{m.error} [{m.configuration}]" for m in measurements if m.error), *failures])


def _segmenters(configurations: Sequence["Configuration"], process: bool) -> "dict[Configuration, Segmenter | None]":
    """Each configuration's loaded model, one where only boxes differ; None of one that is another program."""
    for one in configurations:
        if one.baseline and not process:
            raise RunError(f"{one.baseline} is another program and runs in processes of its own: add --process")

    @cache
    def load(one: "Configuration") -> "Segmenter":
        chosen = {"method": one.method, "box_margin_px": one.box_margin}
        return options.load_segmenter(one.model, one.backend, one.precision, one.threads, **chosen)

    return {one: None if one.baseline else load(replace(one, box_noise=0.0)) for one in configurations}


def _compared(base: "Configuration", compare: str | None) -> "list[Configuration]":
    """The base configuration, or each of `compare`'s, such as `openvino:bf16,openvino:f32:baseline`."""
    from edge.bench.run import baselines

    if compare is None:
        return [base]
    known: dict[str, Sequence[str]] = {
        "backend": BACKENDS,
        "precision": PRECISIONS,
        "method": list(METHODS)[1:],  # auto is a precision here
        "baseline": list(baselines()),
    }
    configurations = []
    for item in compare.split(","):
        words = item.strip().split(":")
        changes: dict[str, Any] = {field: word for word in words for field, values in known.items() if word in values}
        if len(changes) != len(words):
            kinds = "; ".join(" or ".join(values) for values in known.values())
            raise RunError(f"compare takes words joined by colons, at most one of each kind ({kinds}), got {item!r}")
        configurations.append(replace(base, **changes))
    return list(dict.fromkeys(configurations))


def _with_noise(configurations: "list[Configuration]", box_noise: str | None) -> "list[Configuration]":
    """Each configuration with the boxes as given, then with those of each of `box_noise`'s percentages."""
    try:
        percentages = [float(word) for word in box_noise.split(",")] if box_noise else []
    except ValueError:
        percentages = [math.nan]
    if not all(0 < percent <= 100 for percent in percentages):
        raise RunError(f"box-noise takes percentages above 0 and up to 100, such as 5,10,20; got {box_noise!r}")
    return [replace(one, box_noise=percent) for one in configurations for percent in dict.fromkeys([0.0, *percentages])]
