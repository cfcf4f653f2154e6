"""The `samedge` command: thin, and nothing heavy is imported before a command needs it.

`train`, `export` and `weights` come from the packages that need torch, through the entry points `samedge.commands`, so
that this package knows nothing of them.
"""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edge.commands import Commands, fail
from edge.errors import RunError

if TYPE_CHECKING:
    from edge.bench import Configuration
    from edge.pipeline import Options
    from edge.segmenter import Segmenter

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Segment 2D and 3D medical images from box prompts on a laptop's CPU.",
)
cases_app = typer.Typer(no_args_is_help=True, help="Make and check case files.")
app.add_typer(cases_app, name="cases")

ModelOption = Annotated[Path | None, typer.Option("--model", help="Model folder; the one that ships if not given.")]
BackendOption = Annotated[Literal["openvino", "onnxruntime"], typer.Option(help="The engine.")]
PrecisionOption = Annotated[
    Literal["f32", "bf16", "int8", "auto"], typer.Option(help="auto: the fastest that model and CPU have.")
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Threads of the engine; all usable cores if not given.")]
ModeOption = Annotated[
    Literal["fast", "official"],
    typer.Option(help="fast, or official: the masks of the public baseline, quirks included."),
]
VolumeOption = Annotated[
    Literal["auto", "follow", "propagate", "fixed"],
    typer.Option(
        help="What prompts a 3D box's slices: follow, the box moving with the image and narrowing to its ends; "
        "propagate, the mask of the slice before; fixed, the box as it is; auto, follow (fast) or propagate (official)."
    ),
]
EncodeOption = Annotated[
    Literal["auto", "crops", "regions", "slices"],
    typer.Option(
        help="What is encoded: crops, a square around each box, for models trained on them; regions, in 3D what a "
        "slice's boxes can reach; slices, all of it; auto, the first of these that model, engine and mode allow."
    ),
]
LooseOption = Annotated[float, typer.Option(min=0, help="Pixels a box is expected to be loose on each side; 0: tight.")]
BlockOption = Annotated[int, typer.Option(min=1, help="Boxes decoded at once; fewer need less memory.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")]


def main() -> None:
    """Run the command line; exit code 0 all done, 1 something failed, 2 wrong usage, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a case's name need not fit the terminal's encoding
    try:
        app()
    except SystemExit as done:
        _leave(done)


@app.command()
def predict(
    inputs: Annotated[Path, typer.Argument(help="Folder of .npz cases or pictures (boxes in <name>.csv), or a file.")],
    outputs: Annotated[Path, typer.Argument(help="Folder for <case>.npz with key 'segs'; made if missing.")],
    model: ModelOption = None,
    backend: BackendOption = "openvino",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    mode: ModeOption = "fast",
    volume: VolumeOption = "auto",
    encode: EncodeOption = "auto",
    loose_px: LooseOption = 2.5,
    block: BlockOption = 8,
    overwrite: Annotated[bool, typer.Option(help="Do cases again whose output is there.")] = False,
    overlay: Annotated[bool, typer.Option(help="Also write <case>.png with contours and boxes.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a JSON report of the run here.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Segment every case of a folder; one bad case never stops the others."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's, not needed, would turn idle on a core for 0.2 s

    from edge.predict import plan, predict_cases
    from edge.progress import track
    from edge.report import prediction_line, run_report, write_json

    pending, done = plan(inputs, outputs, overwrite=overwrite)
    loaded: list[Segmenter] = []

    def load() -> "Segmenter":
        options = _options(mode=mode, volume=volume, encode=encode, loose_px=loose_px, block=block)
        loaded.append(_segmenter(model, backend, precision, threads, options))
        return loaded[0]

    predictions = []
    for prediction in track(predict_cases(pending, outputs, load, overlay=overlay), len(pending), quiet=quiet):
        predictions.append(prediction)
        if not quiet and prediction.error is None:
            print(prediction_line(prediction), flush=True)
    failures = [prediction.error for prediction in predictions if prediction.error]
    if not quiet:
        skipped = f", {len(done)} were there already" if done else ""
        print(f"{len(predictions) - len(failures)} of {len(pending)} cases done{skipped}", file=sys.stderr)
    if report is not None:
        try:
            write_json(report, run_report(predictions, [path.stem for path in done], loaded[0] if loaded else None))
        except RunError as error:
            failures.append(str(error))
    fail(failures)


@app.command()
def bench(
    cases: Annotated[Path, typer.Argument(help="Folder of cases, or one .npz file.")],
    model: ModelOption = None,
    backend: BackendOption = "openvino",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    mode: ModeOption = "fast",
    volume: VolumeOption = "auto",
    encode: EncodeOption = "auto",
    compare: Annotated[
        str | None,
        typer.Option(
            help="In turn, such as openvino:f32,openvino:bf16:official,openvino:slices; official-cost: see below."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="What official-cost runs with; random weights, as fast, if not given.")
    ] = None,
    process: Annotated[bool, typer.Option(help="A fresh process per case, as the challenge does.")] = False,
    match: Annotated[str, typer.Option(help="Only cases whose name is like this, such as '2DBox_*'.")] = "*",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all measurements here ('-': stdout).")] = None,
    resume: Annotated[bool, typer.Option(help="Take over what --json's file already holds, measure the rest.")] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write one row per case here.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Time every case stage by stage, with peak memory and, where the file holds the truth, DSC and NSD.

    With --process, --compare also takes official-cost: the public baseline as it is, in PyTorch, the encoder again for
    every box of every slice, box by box (needs the export extra).
    """
    from edge.bench import Configuration, Measurement, measure_all, with_ratios
    from edge.bench_report import bench_report, measured_before, print_bench, write_bench_csv
    from edge.case import find_cases
    from edge.model_folder import DEFAULT_MODEL
    from edge.progress import track
    from edge.report import describe_engine, write_json

    base = Configuration(
        model or DEFAULT_MODEL, backend, precision, threads, mode, volume, encode, checkpoint=checkpoint
    )
    configurations = _compared(base, compare)
    file = None if json_file == Path("-") else json_file
    if resume and file is None:
        raise RunError("--resume goes on with a file: add --json FILE")
    paths = [path for path in find_cases(cases) if fnmatch(path.stem, match)]
    if not paths:
        raise RunError(f"{cases}: no case's name is like {match!r}")
    loaded = _bench_segmenters(configurations, process)
    engines = [describe_engine(segmenter.engine) for segmenter in loaded.values() if segmenter]
    if process:  # their memory and threads are not to weigh on what is measured
        loaded = dict.fromkeys(loaded)
    before = measured_before(file, engines, per_process=process) if resume and file else []
    measurements: list[Measurement] = []
    for measured in track(measure_all(paths, loaded, before), len(paths) * len(loaded), quiet=quiet):
        measurements = with_ratios([*measurements, measured])
        if file:  # each time, for --resume
            write_json(file, bench_report(measurements, engines, per_process=process))
    report = bench_report(measurements, engines, per_process=process)
    if json_file == Path("-"):
        write_json(json_file, report)
    else:
        print_bench(report)
    if csv_file is not None:
        write_bench_csv(csv_file, measurements)
    fail([f"{m.error} [{m.configuration}]" for m in measurements if m.error])


@app.command()
def evaluate(
    segs: Annotated[Path, typer.Argument(help="Folder of predictions (.npz, key 'segs').")],
    truths: Annotated[Path, typer.Argument(help="Folder of truths (.npz, key 'gts'), same names, or one file.")],
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write one row per case here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all scores here ('-': stdout).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all usable cores if not given.")] = None,
    spacing_order: Annotated[
        Literal["xyz", "zyx"], typer.Option(help="Of 'spacing' in the files: xyz (the challenge's) or zyx.")
    ] = "xyz",
) -> None:
    """Score predictions: DSC, nsd_official (as the public script) and nsd (contour in 2D, axes right in 3D)."""
    from edge.cores import available_cores
    from edge.evaluate import evaluate as run
    from edge.evaluate import to_json, write_csv
    from edge.report import print_rows, write_json

    evaluation = run(segs, truths, workers=workers or available_cores(), spacing_order=spacing_order)
    if json_file != Path("-"):
        print_rows(evaluation.rows())
    if csv_file is not None:
        write_csv(evaluation, csv_file)
    if json_file is not None:
        write_json(json_file, to_json(evaluation))
    fail([case.error for case in evaluation.cases if case.error])


@cases_app.command("make")
def cases_make(
    out: Annotated[Path, typer.Option(help="Folder to write to; made if missing.")],
    suite: Annotated[
        Literal["small", "table4"] | None, typer.Option(help="table4: the 14 cases of the published table.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="One case instead, such as 3DBox_CT_0001.")] = None,
    shape: Annotated[str, typer.Option(help="Its shape: H,W or D,H,W.")] = "256,256",
    objects: Annotated[int, typer.Option(min=0, help="Its number of objects.")] = 3,
    max_depth: Annotated[int | None, typer.Option(min=1, help="Cut the suite's volumes to this many slices.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed makes the same bytes.")] = 0,
) -> None:
    """Make phantoms: cases with truth, in the challenge's form."""
    from edge.case import write_case
    from edge.phantom import make_phantom, make_suite

    if (suite is None) == (name is None):
        raise RunError("give either --suite small|table4 or --name with --shape and --objects")
    if suite is not None:
        for path in make_suite(suite, out, seed, max_depth):
            print(path, flush=True)
        return
    try:
        lengths = tuple(int(length) for length in shape.split(","))
    except ValueError:
        raise RunError(f"shape must be H,W or D,H,W, got {shape!r}") from None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: cannot make this folder ({error.strerror or error})") from None
    path = out / f"{name}.npz"
    write_case(path, make_phantom(str(name), lengths, objects, seed))
    print(path)


@cases_app.command("check")
def cases_check(files: Annotated[list[Path], typer.Argument(help="Case files, or folders of them.")]) -> None:
    """Say what is wrong with case files, key by key."""
    from edge.case import find_cases
    from edge.check import check_case

    broken = 0
    for path in [case for file in files for case in find_cases(file)]:
        findings = check_case(path)
        errors = [finding for finding in findings if finding.severity == "error"]
        broken += bool(errors)
        print(f"{path.stem}: {'broken' if errors else 'ok'}")
        for finding in findings:
            print(f"  {finding.severity}: {finding.message}")
    raise typer.Exit(1 if broken else 0)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if show:
        from importlib import metadata

        print(f"samedge {metadata.version('samedge')}")
        raise typer.Exit


def _leave(done: SystemExit) -> None:
    """End the process without taking a loaded engine apart, which takes 0.05 s; torch may have more to end."""
    if "torch" not in sys.modules and isinstance(done.code, int | None):
        with suppress(OSError):  # a pipe that nobody reads any more: the usual way says so
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(done.code or 0)
    raise done


def _options(**chosen: Any) -> "Options":
    from edge.pipeline import Options

    return Options(**chosen)


def _segmenter(
    model: Path | None, backend: str, precision: str, threads: int | None, options: "Options"
) -> "Segmenter":
    from edge.home import engine_cache
    from edge.segmenter import DEFAULT_MODEL, Segmenter

    arguments: dict[str, Any] = {"backend": backend, "precision": precision, "threads": threads}
    return Segmenter(model or DEFAULT_MODEL, cache=engine_cache(), options=options, **arguments)


def _bench_segmenters(
    configurations: Sequence["Configuration"], process: bool
) -> "dict[Configuration, Segmenter | None]":
    """The loaded model of each configuration; None of one that is another program."""
    for one in configurations:
        if one.baseline and not process:
            raise RunError(f"{one.baseline} is another program and runs in processes of its own: add --process")

    def load(one: "Configuration") -> "Segmenter":
        options = _options(mode=one.mode, volume=one.volume, encode=one.encode)
        return _segmenter(one.model, one.backend, one.precision, one.threads, options)

    return {one: None if one.baseline else load(one) for one in configurations}


def _compared(base: Any, compare: str | None) -> list[Any]:
    """The base configuration, or each of `compare`'s, such as `openvino:bf16,openvino:f32:official:fixed`."""
    from edge.bench import baselines
    from edge.pipeline import ENCODED, MODES, VOLUME_POLICIES
    from edge.runtime import BACKENDS, PRECISIONS

    if compare is None:
        return [base]
    known: dict[str, Sequence[str]] = {
        "backend": BACKENDS,
        "precision": PRECISIONS,
        "mode": MODES,
        "volume": VOLUME_POLICIES[1:],  # auto is a precision here
        "encode": ENCODED[1:],
        "baseline": list(baselines()),
    }
    configurations = []
    for item in compare.split(","):
        words = item.strip().split(":")
        changes = {field: word for word in words for field, values in known.items() if word in values}
        if len(changes) != len(words):
            options = "; ".join(" or ".join(values) for values in known.values())
            raise RunError(f"compare takes words joined by colons, at most one of each kind ({options}), got {item!r}")
        configurations.append(replace(base, **changes))
    return list(dict.fromkeys(configurations))
