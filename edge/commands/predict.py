"""`samedge predict`: a folder of cases to a folder of label maps."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.choices import BOX_MARGIN_PX
from edge.commands import options
from edge.commands.group import command_app, fail, write_all
from edge.commands.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge.predict import Prediction
    from edge.segmenter import Segmenter


app = command_app()


@app.command()
def predict(
    inputs: Annotated[
        Path, typer.Argument(help="Folder of cases: .npz, pictures, NIfTI, DICOM, NRRD, MetaImage; or one; or s3://.")
    ],
    outputs: Annotated[Path, typer.Argument(help="Folder for the label maps; made if missing; or s3://.")],
    model: options.ModelOption = None,
    backend: options.BackendOption = "openvino",
    precision: options.PrecisionOption = "auto",
    threads: options.ThreadsOption = None,
    method: options.MethodOption = "auto",
    box_margin: options.MarginOption = BOX_MARGIN_PX,
    box: options.BoxOption = None,
    boxes: options.BoxesOption = None,
    boxes_from: options.BoxesFromOption = None,
    box_units: options.BoxUnitsOption = None,
    box_format: options.BoxFormatOption = None,
    modality: options.ModalityOption = None,
    window: options.WindowOption = None,
    volume: options.VolumeOption = None,
    slices: options.PlaneOption = "auto",
    output_format: options.FormatOption = None,
    sidecar: Annotated[
        bool | None, typer.Option(help="Write <case>.json; if not said, for scans and for named labels.")
    ] = None,
    recursive: options.RecursiveOption = False,
    shard: options.ShardOption = None,
    dask: options.DaskOption = None,
    overwrite: Annotated[bool, typer.Option(help="Do cases again whose output is there.")] = False,
    overlay: Annotated[bool, typer.Option(help="Also write <case>.png with contours and boxes.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a JSON report of the run here.")] = None,
    html_file: options.HtmlOption = None,
    quiet: options.QuietOption = False,
) -> None:
    """Segment every case of a folder; one bad case never stops the others."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's, not needed, would turn idle on a core for 0.2 s

    from edge.data.folders import label_of
    from edge.data.names import INPUTS, is_remote
    from edge.data.outputs import OVERLAY, SIDECAR, parse_formats
    from edge.data.prompting import Prompting
    from edge.data.scan import Reading
    from edge.predict import Job, lacking_files, plan, predict_cases, ran_on, root_of
    from edge.reports.progress import track
    from edge.reports.report import prediction_line, run_report, write_json

    options.check_reports(html_file, report, made=None if is_remote(outputs) else outputs)
    inputs = options.located(inputs)
    formats = parse_formats(output_format)
    job = Job(
        Reading(modality, window, volume, slices),
        Prompting(box, boxes, boxes_from, box_units, box_format),
        formats,
        sidecar,
        overlay,
    )
    part = options.parse_shard(shard)
    pending, done = plan(inputs, outputs, overwrite=overwrite, recursive=recursive, formats=formats, shard=part)
    root = root_of(inputs)
    if not recursive and not quiet:
        options.warn_of_nested(inputs, INPUTS, leave_out=outputs)
    loaded: list[Segmenter] = []
    ran: list[dict[str, Any]] = []
    chosen: dict[str, Any] = {"method": method, "box_margin_px": box_margin}

    def load() -> "Segmenter":
        loaded.append(options.load_segmenter(model, backend, precision, threads, **chosen))
        return loaded[0]

    def on_cluster(address: str) -> "Iterator[Prediction]":
        from edge.cluster import EngineChoice, predict_on_cluster
        from edge.engines.model_folder import DEFAULT_MODEL
        from edge.pipeline import Options

        choice = EngineChoice((model or DEFAULT_MODEL).absolute(), backend, precision, threads, Options(**chosen))
        for prediction, where in predict_on_cluster(address, pending, outputs, choice, root=root, job=job):
            ran[:] = ran or ([where] if where else [])
            yield prediction

    predictions, notes = [], Notes(quiet=quiet)
    predicted = on_cluster(dask) if dask else predict_cases(pending, outputs, load, root=root, job=job)
    for prediction in track(predicted, len(pending), quiet=quiet):
        predictions.append(prediction)
        notes.tell(prediction.name, prediction.notes)
        if not quiet and prediction.error is None:
            print(prediction_line(prediction), flush=True)
    notes.close()
    failures = [prediction.error for prediction in predictions if prediction.error]
    if not quiet:
        skipped = f", {len(done)} were there already" if done else ""
        wanted = [ending for ending, asked in ((OVERLAY, overlay), (SIDECAR, sidecar)) if asked]
        if lacking := lacking_files(done, root, outputs, wanted):
            skipped += f", {lacking} of them without the {' or '.join(wanted)} asked for: --overwrite does them again"
        print(f"{len(predictions) - len(failures)} of {len(pending)} cases done{skipped}", file=sys.stderr)
    if report is not None or html_file is not None:
        ran += [ran_on(one) for one in loaded]
        told = run_report(predictions, [label_of(path, root) for path in done], ran[0] if ran else None)

        def write_html(file: Path) -> None:
            from edge.reports.run_page import prediction_page, write_run_page
            from edge.reports.worst import worst_predictions

            worst = worst_predictions(predictions, pending, outputs, root, job)
            write_run_page(file, prediction_page(predictions, told, worst))

        failures += write_all([(report, lambda file: write_json(file, told)), (html_file, write_html)])
    fail(failures)
