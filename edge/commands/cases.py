"""`samedge cases`: make phantoms, check case files, convert them."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edge.commands.group import command_app, fail
from edge.commands.options import (
    BoxesFromOption,
    BoxesOption,
    BoxFormatOption,
    BoxUnitsOption,
    ModalityOption,
    PlaneOption,
    RecursiveOption,
    VolumeOption,
    WindowOption,
    located,
    warn_of_nested,
)
from edge.errors import RunError

app = command_app(no_args_is_help=True, help="Make, check and convert case files.")


@app.command("make")
def make(
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
    from edge.data.case import write_case
    from edge.data.files import make_folder
    from edge.data.phantom import make_phantom, make_suite

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
    make_folder(out)
    path = out / f"{name}.npz"
    write_case(path, make_phantom(str(name), lengths, objects, seed))
    print(path)


@app.command("check")
def check(
    files: Annotated[list[Path], typer.Argument(help="Case files of any kind, or folders of them.")],
    box_format: BoxFormatOption = None,
    recursive: RecursiveOption = False,
) -> None:
    """Say what is wrong with case files, key by key."""
    from edge.data.check import check_case
    from edge.data.folders import label_of
    from edge.data.formats.finding import find_inputs
    from edge.data.names import INPUTS

    broken, files = 0, [located(file) for file in files]
    found = [(label_of(case, file), case) for file in files for case in find_inputs(file, recursive=recursive)]
    for file in [] if recursive else files:
        warn_of_nested(file, INPUTS)
    for name, path in found:
        findings = check_case(path, box_format)
        errors = [finding for finding in findings if finding.severity == "error"]
        broken += bool(errors)
        print(f"{name}: {'broken' if errors else 'ok'}")
        for finding in findings:
            print(f"  {finding.severity}: {finding.message}")
    raise typer.Exit(1 if broken else 0)


@app.command("convert")
def convert(
    inputs: Annotated[Path, typer.Argument(help="Folder of cases of any kind, or one; with --like of label maps.")],
    out: Annotated[Path, typer.Argument(help="Folder to write to; made if missing.")],
    to: Annotated[
        Literal["npz", "nifti", "png", "dicom-seg", "rtstruct"], typer.Option(help="Images: npz or nifti; labels: any.")
    ],
    like: Annotated[
        Path | None, typer.Option(help="Convert label maps, onto the voxels of this image, or of those in this folder.")
    ] = None,
    boxes: BoxesOption = None,
    boxes_from: BoxesFromOption = None,
    box_units: BoxUnitsOption = None,
    box_format: BoxFormatOption = None,
    modality: ModalityOption = None,
    window: WindowOption = None,
    volume: VolumeOption = None,
    slices: PlaneOption = "auto",
    recursive: RecursiveOption = False,
) -> None:
    """Write cases, with boxes and truths, or label maps in another format; one bad file never stops the others."""
    from edge.data.convert import convert_all
    from edge.data.prompting import Prompting
    from edge.data.scan import Reading

    reading = Reading(modality, window, volume, slices)
    prompting = Prompting(None, boxes, boxes_from, box_units, box_format)
    failures = []
    for file, error in convert_all(located(inputs), out, to, reading, prompting, like=like, recursive=recursive):
        if error:
            failures.append(error)
        else:
            print(file, flush=True)
    fail(failures)
