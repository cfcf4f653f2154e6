"""Options that several commands share, and the segmenter they ask for."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edge.choices import METHODS, Backend, Method, Modality, Precision
from edge.errors import RunError

if TYPE_CHECKING:
    from edge.segmenter import Segmenter


ModelOption = Annotated[Path | None, typer.Option("--model", help="Model folder; the one that ships if not given.")]
BackendOption = Annotated[Backend, typer.Option(help="The engine.")]
PrecisionOption = Annotated[Precision, typer.Option(help="auto: the fastest that model and CPU have.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="Threads of the engine; all usable cores if not given.")]
MethodOption = Annotated[Method, typer.Option(help="; ".join(f"{name}: {what}" for name, what in METHODS.items()))]
MarginOption = Annotated[float, typer.Option(min=0, help="Pixels between a box's sides and its object; 0: tight.")]
BoxFormatOption = Annotated[
    Literal["xyxy", "xywh"] | None,
    typer.Option(
        help="Of the pictures' CSV files: corners, or x, y, width, height; if not given, what a first line of names "
        "says, else xyxy."
    ),
]
ModalityOption = Annotated[Modality | None, typer.Option(help="Of every case; what its name says if not given.")]
BoxOption = Annotated[str | None, typer.Option(help="One box for every case: x0,y0,x1,y1 or x0,y0,x1,y1,z0,z1.")]
BoxesOption = Annotated[Path | None, typer.Option(help="CSV or JSON file of boxes, with a column or key 'file'.")]
BoxesFromOption = Annotated[
    Path | None, typer.Option(help="Boxes around the labels of this label map, or of those in this folder.")
]
BoxUnitsOption = Annotated[
    Literal["voxels", "LPS", "RAS"] | None,
    typer.Option(help="Of boxes: voxels of the file, or mm in LPS (DICOM, ITK) or RAS (NIfTI); voxels if nobody says."),
]
WindowOption = Annotated[
    str | None,
    typer.Option(help="soft, lung, brain, bone, suv or LEVEL,WIDTH; CT soft and others by percentiles if not given."),
]
VolumeOption = Annotated[
    int | None, typer.Option(min=0, help="Which volume of a 4D file, or channel of nnU-Net, from 0.")
]
SpacingOrderOption = Annotated[
    Literal["xyz", "zyx"], typer.Option(help="Of 'spacing' in .npz files: xyz (the challenge's) or zyx.")
]
PlaneOption = Annotated[
    Literal["auto", "axial", "coronal", "sagittal"],
    typer.Option(help="Slices of scans; auto: axial, or along an axis of much longer voxels."),
]
FormatOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format", help="npz, nifti, png, dicom-seg, rtstruct, several with commas; what came in if not given."
    ),
]
ShardOption = Annotated[str | None, typer.Option(help="i/n: only the i-th of n parts of the cases, i from 1.")]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write a page of the results with the worst cases here; extra 'html'.")
]
DaskOption = Annotated[
    str | None, typer.Option("--dask", help="Spread cases over this Dask scheduler's workers; extra 'cluster'.")
]
RecursiveOption = Annotated[bool, typer.Option("-r", "--recursive", help="Also the folders within a folder.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Errors only.")]


def warn_of_nested(
    folder: Path, types: tuple[str, ...], *, leave_out: Path | None = None, cure: str = "add --recursive"
) -> None:
    """Say on stderr that cases in a folder's subfolders are passed over, where there are any."""
    from edge.data.datasets import is_dataset
    from edge.data.folders import files_within
    from edge.data.names import address_of, is_folder
    from edge.errors import CaseError

    try:
        passed_over = is_folder(folder) and not is_dataset(folder)
        nested = next(files_within(folder, types, leave_out), None) if passed_over else None
    except CaseError:  # a subfolder that must not be read holds nothing to be done
        nested = None
    if nested:
        where, such = address_of(folder), address_of(nested)
        print(f"warning: {where}: its subfolders are passed over, such as that of {such}; {cure}", file=sys.stderr)


def check_reports(html: Path | None, *others: Path | None, made: Path | None = None) -> None:
    """Whether the page and the files that are asked for, if any, can be written, before minutes of work.

    Args: made: a folder that the work makes.

    Raises:
        RunError: pages need a library that is not there; a file's folder is not there.
    """
    if html is not None:
        from edge.reports.page import check_pages

        check_pages()
    for file in (html, *others):
        is_made = file is not None and made is not None and file.parent.absolute() == made.absolute()
        if file is not None and not is_made and not file.parent.is_dir():
            raise RunError(f"{file}: there is no folder {file.parent} to write it into")


def parse_shard(text: str | None) -> tuple[int, int]:
    """The part and the number of parts of `i/n`; all is part 1 of 1."""
    words = (text or "1/1").split("/")
    if len(words) == 2 and all(word.isdecimal() for word in words) and 1 <= int(words[0]) <= int(words[1]):
        return int(words[0]), int(words[1])
    raise typer.BadParameter(f"--shard must be i/n with i from 1 to n, got {text}; sbatch --array=1-n counts so")


def located(path: Path) -> Path:
    """A path in full: data sets, and what lies beside a case, are known by the names of folders."""
    from edge.data.remote import absolute

    return path.resolve() if path.name in ("", "..") else absolute(path)


def load_segmenter(model: Path | None, backend: str, precision: str, threads: int | None, **chosen: Any) -> "Segmenter":
    """The model, loaded; `chosen` are fields of `edge.pipeline.Options`."""
    from edge.pipeline import Options
    from edge.segmenter import DEFAULT_MODEL, Segmenter
    from edge.system.home import engine_cache

    engine: dict[str, Any] = {"backend": backend, "precision": precision, "threads": threads}
    return Segmenter(model or DEFAULT_MODEL, cache=engine_cache(), options=Options(**chosen), **engine)
