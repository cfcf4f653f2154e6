"""Options that several commands share, and the segmenter they ask for."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from edge.segmenter import Segmenter

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
BoxFormatOption = Annotated[
    Literal["xyxy", "xywh"] | None,
    typer.Option(
        help="Of the pictures' CSV files: corners, or x, y, width, height; if not given, what a first line of names "
        "says, else xyxy."
    ),
]
ModalityOption = Annotated[
    Literal[
        "CT", "MR", "PET", "X-Ray", "US", "Mammography", "OCT", "Endoscopy", "Fundus", "Dermoscopy", "Microscopy"
    ] | None,
    typer.Option(help="Of every case; what its name says if not given."),
]  # fmt: skip
RecursiveOption = Annotated[bool, typer.Option("-r", "--recursive", help="Also the folders within a folder.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")]


def warn_of_nested(
    folder: Path, types: tuple[str, ...], *, leave_out: Path | None = None, cure: str = "add --recursive"
) -> None:
    """Say on stderr that cases in a folder's subfolders are passed over, where there are any."""
    from edge.errors import CaseError
    from edge.folders import files_within

    try:
        nested = next(files_within(folder, types, leave_out), None) if folder.is_dir() else None
    except CaseError:  # a subfolder that must not be read holds nothing to be done
        nested = None
    if nested:
        print(f"warning: {folder}: its subfolders are passed over, such as that of {nested}; {cure}", file=sys.stderr)


def load_segmenter(model: Path | None, backend: str, precision: str, threads: int | None, **chosen: Any) -> "Segmenter":
    """The model, loaded; `chosen` are fields of `edge.pipeline.Options`."""
    from edge.home import engine_cache
    from edge.pipeline import Options
    from edge.segmenter import DEFAULT_MODEL, Segmenter

    engine: dict[str, Any] = {"backend": backend, "precision": precision, "threads": threads}
    return Segmenter(model or DEFAULT_MODEL, cache=engine_cache(), options=Options(**chosen), **engine)
