"""`samedge export`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from edge.model_folder import ModelDescription

app = typer.Typer(add_completion=False)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint in LiteMedSAM's public layout (.pth).")],
    out: Annotated[Path, typer.Argument(help="Model folder to write; an older model there is replaced.")],
    adapter: Annotated[
        Path | None, typer.Option(help="LoRA adapter trained on CHECKPOINT (RUN/adapter), to merge into it.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the model calls itself; the checkpoint's name if not given.")
    ] = None,
    weights: Annotated[Literal["f32", "f16"], typer.Option(help="As stored; f16: half the size, rounded.")] = "f32",
    licence: Annotated[str, typer.Option(help="Licence to state in model.json.")] = "",
    training_data: Annotated[str, typer.Option(help="Training data to state in model.json.")] = "",
    calibration: Annotated[
        Path | None, typer.Option(help="Labelled cases (.npz, or pictures with _gt.png) to make INT8 graphs with.")
    ] = None,
    calibration_slices: Annotated[int, typer.Option(min=1, help="Slices to calibrate with.")] = 100,
    holdout: Annotated[
        Path | None, typer.Option(help="Labelled cases to measure INT8 on; a quarter of --calibration if not given.")
    ] = None,
    max_dsc_drop: Annotated[float, typer.Option(help="DSC points INT8 may lose, mean over modalities.")] = 0.5,
    max_error: Annotated[
        float | None, typer.Option(help="Largest difference from torch over largest value; 0.001, or 0.01 for f16.")
    ] = None,
    min_equal: Annotated[float | None, typer.Option(help="Smallest share of equal mask pixels; 0.999.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")] = False,
) -> None:
    """Export a checkpoint to OpenVINO and ONNX, and compare both with torch."""
    from edge.errors import RunError
    from edge.model_folder import read_description
    from edge.report import print_rows

    try:
        from export.int8 import Int8Options
        from export.model import BOUNDS, ExportOptions, export_model
    except ImportError as error:
        raise RunError(f"samedge export needs {error.name}: pip install 'samedge[export]'") from None

    given = {"relative_error": max_error, "equal_pixels": min_equal}
    bounds = replace(BOUNDS[weights], **{field: value for field, value in given.items() if value is not None})
    int8 = None if calibration is None else Int8Options(calibration, calibration_slices, max_dsc_drop, holdout)
    options = ExportOptions(name, weights, licence, training_data, bounds, adapter, int8)
    parity = export_model(checkpoint, out, options, lambda step: None if quiet else typer.echo(f"{step} ...", err=True))
    if quiet:
        return
    rows = [["backend", "embedding", "of", "logits", "of", "equal pixels"]]
    for row in parity:
        numbers = (row.embedding_error, row.embedding_scale, row.logits_error, row.logits_scale)
        rows.append([row.backend, *(f"{number:.2e}" for number in numbers), f"{row.equal_pixels:.4%}"])
    print("largest absolute difference from torch f32, of the largest value")
    print_rows(rows)
    _print_speed(read_description(out))
    print(f"written to {out}")


def _print_speed(description: "ModelDescription") -> None:
    """Speed of every engine; what INT8 loses, and whether it is worth it on this machine."""
    from edge.report import print_rows

    if not description.speed:
        return
    print(f"medians in ms on {description.speed['cpu']} ({', '.join(description.speed['flags'])})")
    engines = description.speed["engines"]
    counts = list(engines[0]["ms_per_box"])
    rows = [["engine", "slice", *(f"box, {count} at once" for count in counts)]]
    for engine in engines:
        boxes = (f"{engine['ms_per_box'][count]:.1f}" for count in counts)
        rows.append([engine["engine"], f"{engine['ms_per_slice']:.1f}", *boxes])
    print_rows(rows)
    if description.int8:
        rows = [["modality", "slices", "dsc f32", "int8", "drop"]]
        for row in description.int8["dsc"]:
            numbers = (100 * row["f32"], 100 * row["int8"], row["drop_points"])
            rows.append([row["modality"], str(row["slices"]), *(f"{number:.2f}" for number in numbers)])
        print_rows(rows)
        print(f"in float: {', '.join(description.int8['in_float'])}")
        if not description.int8["faster"]:
            print("INT8 is not the fastest on this machine; --precision auto takes float")
