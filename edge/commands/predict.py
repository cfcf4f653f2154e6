"""`samedge predict`: a folder of cases to a folder of label maps."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.choices import BOX_MARGIN_PX
from edge.commands.group import fail
from edge.commands.notes import Notes
from edge.commands.options import (
    BackendOption,
    BoxFormatOption,
    MarginOption,
    MethodOption,
    ModelOption,
    PrecisionOption,
    QuietOption,
    RecursiveOption,
    ThreadsOption,
    load_segmenter,
    warn_of_nested,
)
from edge.errors import RunError

if TYPE_CHECKING:
    from edge.segmenter import Segmenter


def predict(
    inputs: Annotated[Path, typer.Argument(help="Folder of .npz cases or pictures (boxes in <name>.csv), or a file.")],
    outputs: Annotated[Path, typer.Argument(help="Folder for <case>.npz with key 'segs'; made if missing.")],
    model: ModelOption = None,
    backend: BackendOption = "openvino",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    method: MethodOption = "auto",
    box_margin: MarginOption = BOX_MARGIN_PX,
    box_format: BoxFormatOption = None,
    recursive: RecursiveOption = False,
    overwrite: Annotated[bool, typer.Option(help="Do cases again whose output is there.")] = False,
    overlay: Annotated[bool, typer.Option(help="Also write <case>.png with contours and boxes.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write a JSON report of the run here.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Segment every case of a folder; one bad case never stops the others."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's, not needed, would turn idle on a core for 0.2 s

    from edge.data.folders import label_of
    from edge.data.picture import INPUTS
    from edge.predict import plan, predict_cases
    from edge.reports.progress import track
    from edge.reports.report import prediction_line, run_report, write_json

    pending, done = plan(inputs, outputs, overwrite=overwrite, recursive=recursive)
    root = inputs if inputs.is_dir() else inputs.parent
    if not recursive and not quiet:
        warn_of_nested(inputs, INPUTS, leave_out=outputs)
    loaded: list[Segmenter] = []

    def load() -> "Segmenter":
        loaded.append(load_segmenter(model, backend, precision, threads, method=method, box_margin_px=box_margin))
        return loaded[0]

    predictions, notes = [], Notes(quiet=quiet)
    predicted = predict_cases(pending, outputs, load, root=root, overlay=overlay, box_format=box_format)
    for prediction in track(predicted, len(pending), quiet=quiet):
        predictions.append(prediction)
        notes.tell(prediction.name, prediction.notes)
        if not quiet and prediction.error is None:
            print(prediction_line(prediction), flush=True)
    notes.close()
    failures = [prediction.error for prediction in predictions if prediction.error]
    if not quiet:
        skipped = f", {len(done)} were there already" if done else ""
        print(f"{len(predictions) - len(failures)} of {len(pending)} cases done{skipped}", file=sys.stderr)
    if report is not None:
        try:
            write_json(
                report, run_report(predictions, [label_of(path, root) for path in done], loaded[0] if loaded else None)
            )
        except RunError as error:
            failures.append(str(error))
    fail(failures)
