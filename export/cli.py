"""`samedge export`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(add_completion=False)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint in LiteMedSAM's public layout (.pth).")],
    out: Annotated[Path, typer.Argument(help="Model folder to write; an older model there is replaced.")],
    name: Annotated[
        str | None, typer.Option(help="What the model calls itself; the checkpoint's name if not given.")
    ] = None,
    weights: Annotated[Literal["f32", "f16"], typer.Option(help="As stored; f16: half the size, rounded.")] = "f32",
    licence: Annotated[str, typer.Option(help="Licence to state in model.json.")] = "",
    training_data: Annotated[str, typer.Option(help="Training data to state in model.json.")] = "",
    max_error: Annotated[
        float | None, typer.Option(help="Largest difference from torch over largest value; 0.001, or 0.01 for f16.")
    ] = None,
    min_equal: Annotated[float | None, typer.Option(help="Smallest share of equal mask pixels; 0.999.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")] = False,
) -> None:
    """Export a checkpoint to OpenVINO and ONNX, and compare both with torch."""
    from edge.errors import RunError
    from edge.report import print_rows

    try:
        from export.model import BOUNDS, ExportOptions, export_model
    except ImportError as error:
        raise RunError(f"samedge export needs {error.name}: pip install 'samedge[export]'") from None

    given = {"relative_error": max_error, "equal_pixels": min_equal}
    bounds = replace(BOUNDS[weights], **{field: value for field, value in given.items() if value is not None})
    options = ExportOptions(name, weights, licence, training_data, bounds)
    parity = export_model(checkpoint, out, options, lambda step: None if quiet else typer.echo(f"{step} ...", err=True))
    if quiet:
        return
    rows = [["backend", "embedding", "of", "logits", "of", "equal pixels"]]
    for row in parity:
        numbers = (row.embedding_error, row.embedding_scale, row.logits_error, row.logits_scale)
        rows.append([row.backend, *(f"{number:.2e}" for number in numbers), f"{row.equal_pixels:.4%}"])
    print("largest absolute difference from torch f32, of the largest value")
    print_rows(rows)
    print(f"written to {out}")
