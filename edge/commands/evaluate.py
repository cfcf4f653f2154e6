"""`samedge evaluate`: scores of a folder of predictions."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge.commands.group import fail
from edge.commands.notes import Notes
from edge.commands.options import ModalityOption, RecursiveOption, warn_of_nested


def evaluate(
    segs: Annotated[Path, typer.Argument(help="Folder of predictions: .npz with 'segs', NIfTI, NRRD, MHA, PNG.")],
    truths: Annotated[
        Path, typer.Argument(help="Folder of truths of the same names (or <name>_gt), .npz with 'gts'; or one.")
    ],
    report: Annotated[
        Path | None,
        typer.Option(help="What samedge predict --report wrote of these predictions, to be told in --json."),
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write one row per case here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all scores here ('-': stdout).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all usable cores if not given.")] = None,
    spacing_order: Annotated[
        Literal["xyz", "zyx"], typer.Option(help="Of 'spacing' in the files: xyz (the challenge's) or zyx.")
    ] = "xyz",
    modality: ModalityOption = None,
    recursive: RecursiveOption = False,
) -> None:
    """Score predictions: DSC, nsd_official (as the public script) and nsd (contour in 2D, axes right in 3D)."""
    from edge.notes import Note
    from edge.reports.report import now, print_rows, read_run, write_json
    from edge.scoring.evaluate import TRUTHS, to_json, write_csv
    from edge.scoring.evaluate import evaluate as run
    from edge.system.cores import available_cores
    from edge.system.machine import describe_machine

    prediction = read_run(report) if report else None  # what is wrong with it is better said before minutes of scoring
    if not recursive:
        warn_of_nested(truths, TRUTHS)
    evaluation = run(
        segs,
        truths,
        workers=workers or available_cores(),
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
    if csv_file is not None:
        write_csv(evaluation, csv_file)
    if json_file is not None:
        made = {"created": now(), "machine": describe_machine(), "prediction": prediction}
        write_json(json_file, {**made, **to_json(evaluation)})
    fail([case.error for case in evaluation.cases if case.error])
