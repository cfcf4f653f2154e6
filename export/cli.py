"""`samedge export`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edge.commands.group import command_app
from edge.commands.options import located

if TYPE_CHECKING:
    from edge.engines.model_folder import ModelDescription
    from edge.views.ladder import ViewLadder
    from export.checks.parity import Parity

app = command_app()


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint in LiteMedSAM's layout (.pth), or `litemedsam`.")],
    out: Annotated[Path, typer.Argument(help="Model folder to write; an older model there is replaced.")],
    adapter: Annotated[
        Path | None, typer.Option(help="LoRA adapter trained on CHECKPOINT (RUN/adapter), to merge into it.")
    ] = None,
    adapter_scale: Annotated[
        float, typer.Option(min=0, help="How much of the adapter counts: 0 CHECKPOINT alone, 1 all that was trained.")
    ] = 1.0,
    views: Annotated[
        str, typer.Option(help="Sizes of the views that CHECKPOINT was trained on, px, such as 56,112,224.")
    ] = "",
    walks: Annotated[
        bool, typer.Option("--walks", help="Volumes: CHECKPOINT was trained on walks, as litemedsam-lora is.")
    ] = False,
    box_share: Annotated[
        float, typer.Option(help="Views: part of the side that the longer side of a box fills.")
    ] = 0.72,
    least_scale: Annotated[
        float, typer.Option(help="Views: the smallest that shows a box at this many px per px of the image is taken.")
    ] = 0.85,
    name: Annotated[
        str | None, typer.Option(help="What the model calls itself; the checkpoint's name if not given.")
    ] = None,
    weights: Annotated[Literal["f32", "f16"], typer.Option(help="As stored; f16: half the size, rounded.")] = "f32",
    io: Annotated[
        Literal["samedge", "sam", "sam-1024"],
        typer.Option(
            help="A model folder, or two ONNX files as tools for SAM load: points in a frame of 256 or 1024 px."
        ),
    ] = "samedge",
    licence: Annotated[str, typer.Option(help="Licence to state in model.json.")] = "",
    training_data: Annotated[str, typer.Option(help="Training data to state in model.json.")] = "",
    calibration: Annotated[
        Path | None, typer.Option(help="Labelled cases, as for train, to make INT8 graphs with.")
    ] = None,
    int8: Annotated[
        Literal["openvino", "onnxruntime", "both"], typer.Option(help="Which engine gets INT8 graphs.")
    ] = "openvino",
    calibration_slices: Annotated[int, typer.Option(min=1, help="Slices to calibrate with.")] = 100,
    holdout: Annotated[
        Path | None, typer.Option(help="Labelled cases to measure INT8 on; a quarter of --calibration if not given.")
    ] = None,
    holdout_cases: Annotated[
        int, typer.Option(min=1, help="Held-out cases per modality to measure on, a slice each.")
    ] = 5,
    methods_on: Annotated[
        Path | None,
        typer.Option(help="Labelled volumes to choose methods and views of walks on; else all are tracked."),
    ] = None,
    max_dsc_drop: Annotated[float, typer.Option(help="DSC points INT8 may lose, mean over modalities.")] = 0.5,
    max_error: Annotated[
        float | None, typer.Option(help="Largest difference from torch over largest value; 0.001, or 0.01 for f16.")
    ] = None,
    min_equal: Annotated[float | None, typer.Option(help="Smallest share of equal mask pixels; 0.999.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")] = False,
) -> None:
    """Export a checkpoint to OpenVINO and ONNX, and compare both with torch."""
    from edge.engines.model_folder import read_description
    from edge.engines.runtime import BACKENDS
    from edge.errors import RunError

    try:
        from export.int8.add import Int8Options
        from export.model_files.model import BOUNDS, export_model
        from export.model_files.options import ExportOptions
    except ImportError as error:
        raise RunError(f"samedge export needs {error.name}: pip install 'samedge[export]'") from None

    given = {"relative_error": max_error, "equal_pixels": min_equal}
    bounds = replace(BOUNDS[weights], **{field: value for field, value in given.items() if value is not None})
    backends = BACKENDS if int8 == "both" else (int8,)
    quantized = None
    calibration, holdout, methods_on = (one and located(one) for one in (calibration, holdout, methods_on))
    if calibration is not None:
        quantized = Int8Options(calibration, calibration_slices, max_dsc_drop, holdout, holdout_cases, backends)
    ladder = _ladder(views, box_share, least_scale) if views else None
    options = ExportOptions(
        name, weights, licence, training_data, bounds, adapter, adapter_scale, ladder, walks, quantized, methods_on, io
    )
    parity = export_model(checkpoint, out, options, lambda step: None if quiet else typer.echo(f"{step} ...", err=True))
    if quiet:
        return
    if io == "samedge":
        _print_engines(read_description(out), parity)
    else:
        _print_parity(parity[0])
    print(f"written to {out}")


def _print_parity(row: "Parity") -> None:
    embedding, logits = row.embedding_error / row.embedding_scale, row.logits_error / row.logits_scale
    print(
        f"{row.engine}, {row.size_mib:.1f} MiB; from torch by {embedding:.1e} of the embedding's largest value and "
        f"{logits:.1e} of the logits'; {row.equal_pixels:.4%} of pixels equal"
    )


def _ladder(views: str, box_share: float, least_scale: float) -> "ViewLadder":
    from edge.views.ladder import ViewLadder

    try:
        sizes = tuple(sorted(int(size) for size in views.split(",")))
    except ValueError:
        raise typer.BadParameter(
            f"--views must be numbers with commas between, such as 56,112,224; got {views}"
        ) from None
    return ViewLadder(sizes, box_share, least_scale)


def _print_engines(description: "ModelDescription", parity: "list[Parity]") -> None:
    """Parity, size and speed of every engine; what INT8 loses, and whether it is worth it on this machine."""
    from edge.reports.report import print_rows

    speed = {row["engine"]: row for row in description.speed.get("engines", [])}
    counts = list(next(iter(speed.values()))["ms_per_box"]) if speed else []
    header = ["engine", "embedding", "relative", "logits", "relative", "equal pixels", "dsc drop", "MiB", "ms a slice"]
    views = [f"view of {size} px and box" for size in description.ladder.sizes] if description.ladder else []
    rows = [[*header, *(f"a box of {count}" for count in counts), *views]]
    for row in parity:
        errors = [(row.embedding_error, row.embedding_scale), (row.logits_error, row.logits_scale)]
        numbers = [f"{number:.1e}" for error, scale in errors for number in (error, error / scale)]
        dsc = "" if row.dsc_drop is None else f"{row.dsc_drop:.2f}"
        rows.append([row.engine, *numbers, f"{row.equal_pixels:.4%}", dsc, f"{row.size_mib:.1f}"])
    if "torch f32" in speed:
        rows.append(["torch f32", *[""] * (len(header) - 2)])
    for texts in rows[1:]:
        texts += _times(speed[texts[0]]) if texts[0] in speed else []
    print("largest differences from torch f32, absolute and of the largest value; DSC in points; medians in ms")
    if speed:
        print(f"on {description.speed['cpu']} ({', '.join(description.speed['flags'])})")
    print_rows(rows)
    for backend, facts in description.int8.items():
        _print_int8(backend, facts)


def _times(row: dict[str, Any]) -> list[str]:
    numbers = [*row["ms_per_box"].values(), *row["ms_per_view"].values()]
    return [f"{row['ms_per_slice']:.1f}", *(f"{ms:.2f}" for ms in numbers)]


def _print_int8(backend: str, int8: dict[str, Any]) -> None:
    from edge.reports.report import print_rows

    rows = [["modality", "slices", "dsc f32", "int8", "drop"]]
    for row in int8["dsc"]:
        numbers = (100 * row["f32"], 100 * row["int8"], row["drop_points"])
        rows.append([row["modality"], str(row["slices"]), *(f"{number:.2f}" for number in numbers)])
    print_rows(rows)
    print(f"INT8 for {backend}, in float: {', '.join(int8['in_float'])}")
    if int8["faster"] is None:
        print("this CPU has no instructions for it; --precision auto takes it on those that have")
    elif not int8["faster"]:
        print("it is not the fastest on this machine; --precision auto takes float")
