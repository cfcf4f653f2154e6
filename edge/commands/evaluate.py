"""`samedge evaluate`: scores of a folder of predictions."""

from pathlib import Path
from typing import Annotated

import typer

from edge.commands.group import command_app, fail, write_all
from edge.commands.notes import Notes
from edge.commands.options import (
    DaskOption,
    HtmlOption,
    ModalityOption,
    RecursiveOption,
    SpacingOrderOption,
    check_reports,
    located,
    warn_of_nested,
)
from edge.errors import RunError

app = command_app()


@app.command()
def evaluate(
    segs: Annotated[Path, typer.Argument(help="Folder of predictions: .npz with 'segs', NIfTI, NRRD, MetaImage, PNG.")],
    truths: Annotated[
        Path, typer.Argument(help="Folder of truths of the same names (or <name>_gt), .npz with 'gts'; or one.")
    ],
    report: Annotated[
        Path | None,
        typer.Option(help="What samedge predict --report wrote of these predictions, to be told in --json."),
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write one row per case here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all scores here ('-': stdout).")] = None,
    html_file: HtmlOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all usable cores if not given.")] = None,
    dask: DaskOption = None,
    spacing_order: SpacingOrderOption = "xyz",
    modality: ModalityOption = None,
    recursive: RecursiveOption = False,
) -> None:
    """Score predictions: DSC, nsd_official (as the public script) and nsd (contour in 2D, axes right in 3D)."""
    from edge.data.names import is_remote
    from edge.notes import Note
    from edge.reports.report import now, print_rows, read_run, write_json
    from edge.scoring.evaluate import evaluate as run
    from edge.scoring.evaluate import to_json, write_csv
    from edge.scoring.truths import TRUTHS
    from edge.system.cores import available_cores
    from edge.system.machine import describe_machine

    check_reports(html_file, csv_file, json_file)
    truths = located(truths)
    if segs.is_file():
        raise RunError(f"{segs}: give the folder that the predictions lie in")
    if not is_remote(segs) and not segs.is_dir():
        raise RunError(f"{segs}: no such folder of predictions")
    prediction = read_run(report) if report else None  # what is wrong with it is better said before minutes of scoring
    if not recursive:
        warn_of_nested(truths, TRUTHS)
    evaluation = run(
        segs,
        truths,
        workers=workers or available_cores(),
        dask=dask,
        spacing_order=spacing_order,
        modality=modality,
        recursive=recursive,
    )
    if json_file != Path("-"):
        print_rows(evaluation.rows())
    notes = Notes()
    for case in evaluation.cases:
        notes.tell(case.name, [Note(case.note)] if case.note else [])
    notes.close()
    made = {"created": now(), "machine": describe_machine(), "prediction": prediction}

    def write_html(file: Path) -> None:
        from edge.reports.run_page import evaluation_page, write_run_page
        from edge.reports.worst import worst_scores

        worst = worst_scores(evaluation, segs, truths, recursive=recursive)
        write_run_page(file, evaluation_page(evaluation, made, worst))

    failures = write_all(
        [
            (csv_file, lambda file: write_csv(evaluation, file)),
            (json_file, lambda file: write_json(file, {**made, **to_json(evaluation)})),
            (html_file, write_html),
        ]
    )
    fail([*(case.error for case in evaluation.cases if case.error), *failures])
