"""Cases and label maps from one format to another."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.box_names import NAMES
from edge.data.case import Case, find_cases, write_case
from edge.data.files import make_folder, write_whole
from edge.data.folders import label_of, labelled
from edge.data.formats.finding import files_of, find_inputs
from edge.data.formats.registry import kind_of, read_input, read_stored, read_with_truth
from edge.data.labels import renumber
from edge.data.names import INPUTS, LABEL_MAPS, TRUTH, case_name
from edge.data.objects import labels_of_case, names_of_labels
from edge.data.outputs import ENDINGS, OVERLAY, check_formats, geometry_of, write_labels
from edge.data.prompting import Prompting, box_file_beside, box_source, boxes_of_labels, prompted
from edge.data.scan import Reading, Scan
from edge.errors import CaseError, RunError, SamedgeError

DERIVED = ("_labels", "_seg", "_rtstruct", TRUTH)  # what a label map's name has after its image's


def convert_all(
    inputs: Path,
    out: Path,
    to: str,
    reading: Reading,
    prompting: Prompting,
    *,
    like: Path | None = None,
    recursive: bool = False,
) -> Iterator[tuple[Path, str | None]]:
    """Convert each case of a folder, or each label map where `like` names the images, or the one given.

    Yields:
        A file that was written and None, or an input and why it was not converted.

    Raises:
        CaseError: nothing there to convert.
        RunError: images asked for in a format of labels only, or the folder cannot be made.
    """
    if like is None and to not in ("npz", "nifti"):
        raise RunError(f"images are converted to npz or nifti; {to} is of label maps: name their images with --like")
    types = (".npz", *LABEL_MAPS, ".dcm")
    paths = find_cases(inputs, types, recursive=recursive) if like else find_inputs(inputs, recursive=recursive)
    if like:
        paths = _without_overlays(paths)
    root = inputs if inputs.is_dir() else inputs.parent
    claimed: dict[tuple[Path, str], Path] = {}  # folder and name of outputs -> what they are made of
    for path in paths:
        folder = out / path.parent.relative_to(root) if root in path.parents else out
        make_folder(folder)
        try:
            image = _image_of(path, like) if like else path
            if (twin := claimed.setdefault((folder, case_name(image)), path)) != path:
                raise CaseError(
                    f"{case_name(path)}: {path.name} and {twin.name} would write the same output; "
                    "convert one of them into another folder"
                )
            _refuse_to_overwrite(path, image, folder, to, prompting)
            files = (
                convert_labels(path, folder, to, image, reading)
                if like
                else convert_case(path, folder, to, reading, prompting)
            )
            yield from ((file, None) for file in files)
        except SamedgeError as error:
            yield path, labelled(str(error), path, label_of(path, root))


def _refuse_to_overwrite(path: Path, image: Path, folder: Path, to: str, prompting: Prompting) -> None:
    """Raises CaseError: an output would be written over what is read, or lies beside that already."""
    read = {path, *files_of(image), *filter(None, [box_source(image, prompting)])}
    ends = [ENDINGS[to], f"{TRUTH}.nii.gz", ".json"] if to == "nifti" else [ENDINGS[to]]
    for file in (folder / f"{case_name(image)}{end}" for end in ends):
        if file.exists() and any(one.exists() and file.samefile(one) for one in read):
            raise CaseError(
                f"{case_name(path)}: {file.name} would be written over what it is made of; convert to another folder"
            )
        if file.exists() and folder.resolve() == path.parent.resolve():
            raise CaseError(f"{case_name(path)}: {file.name} lies beside it already; convert to another folder")


def convert_case(path: Path, folder: Path, to: str, reading: Reading, prompting: Prompting) -> list[Path]:
    """Write a case with its boxes and truth as `<name>.npz`, or as `<name>.nii.gz`, `<name>_gt.nii.gz`, `<name>.json`.

    NIfTI holds a scan's own intensities where no window is asked for, else greys.

    Boxes are the case's own, or those asked for; where there are none, those around the truth's labels.

    Raises:
        CaseError: it cannot be read.
        RunError: a file cannot be written.
    """
    case = _with_boxes(read_with_truth(path, reading), path, prompting)
    if to == "npz":
        right, wrong = ("3DBox_", "2DBox_") if case.is_volume else ("2DBox_", "3DBox_")
        if case.name.startswith(wrong):
            raise CaseError(f"{case.name}: of shape {case.shape}, its .npz would not be read; call it {right}...")
        file = folder / f"{case.name}.npz"
        write_case(file, case)
        return [file]
    from edge.data.formats import nifti

    geometry = geometry_of(case)
    if case.image.ndim == 3 and not case.is_volume and np.ptp(case.image, axis=2).any():
        raise CaseError(f"{case.name}: is coloured; NIfTI is for greys")
    files = [folder / f"{case.name}.nii.gz"]
    in_greys = case.geometry is None or reading.window is not None
    if in_greys:
        greys = case.image if case.is_volume else case.image[None, ..., 0]
        array = np.ascontiguousarray(geometry.to_file(greys))
    else:
        array = _intensities(read_stored(path, reading))
    nifti.write_volume(files[0], array, geometry.affine, in_greys=in_greys)
    if case.truth is not None:
        files.append(folder / f"{case.name}{TRUTH}.nii.gz")
        nifti.write_labels(files[-1], case.truth, geometry)
    if len(case.boxes):
        files.append(folder / f"{case.name}.json")
        write_whole(files[-1], _boxes_as_json(case).encode())
    return files


def convert_labels(path: Path, folder: Path, to: str, image: Path, reading: Reading) -> list[Path]:
    """Write a label map in a format, in the geometry of its image.

    Raises:
        CaseError: it does not fit its image.
        RunError: the file cannot be written.
    """
    case = read_input(image, reading)
    check_formats(case, image, (to,))
    labels = labels_of_case(case, image, path)
    boxes, numbers = boxes_of_labels(labels)
    if to in ("dicom-seg", "rtstruct"):  # segment k is label k
        labels, names = renumber(labels), names_of_labels(path)
        case = replace(case, boxes=boxes, label_names=tuple(names.get(number) or str(number) for number in numbers))
    return write_labels(case, labels, image, folder, (to,))


def _intensities(scan: Scan) -> npt.NDArray:
    """In the file's order (I, J, K); whole numbers where slope and intercept are."""
    array, slope, intercept = scan.array, scan.slope, scan.intercept
    if (slope, intercept) == (1, 0):
        return array
    if array.dtype.kind == "f" or slope % 1 or intercept % 1:
        return array * slope + intercept
    ends = [int(end) for end in (array.min(), array.max())]
    scaled = [end * int(slope) for end in ends]
    wanted = [end + int(intercept) for end in scaled]
    whole = array.astype(_holding(*ends, *scaled, *wanted, int(slope), int(intercept)))
    return (whole * int(slope) + int(intercept)).astype(_holding(*wanted), copy=False)


def _holding(*numbers: int) -> type[np.signedinteger]:
    """The smallest type that holds them: a volume in a wider one takes as many times the memory."""
    most = max(map(abs, numbers))
    return np.int16 if most < 2**15 else np.int32 if most < 2**31 else np.int64


def _with_boxes(case: Case, path: Path, prompting: Prompting) -> Case:
    if prompting.is_given or (kind_of(path) != "npz" and box_file_beside(path).is_file()):
        return prompted(case, path, prompting)
    if kind_of(path) == "npz" or case.truth is None:
        return case
    truth = renumber(case.truth)
    return replace(case, truth=truth, boxes=boxes_of_labels(truth)[0])


def _boxes_as_json(case: Case) -> str:
    """In voxels of the file that `convert_case` writes."""
    names = NAMES[3]["xyxy"]
    geometry = geometry_of(case)
    records = []
    for row, box in enumerate(case.boxes_in_volume):
        ends = geometry.file_from_volume(box.reshape(2, 3))
        record = dict(zip(names, np.concatenate([ends.min(axis=0), ends.max(axis=0)]).round(6).tolist(), strict=True))
        records.append({**record, **({"label": case.label_names[row]} if case.label_names else {})})
    return json.dumps({"units": "voxels", "boxes": records}, indent=2) + "\n"


def _without_overlays(paths: list[Path]) -> list[Path]:
    """Without pictures that lie beside label maps of their names: `predict --overlay` wrote them."""

    def is_overlay(path: Path) -> bool:
        return path.suffix == OVERLAY and not case_name(path).endswith(DERIVED)

    others = {path.parent / case_name(path) for path in paths if not is_overlay(path)}
    others |= {path.with_name(path.name.removesuffix(end)) for path in others for end in DERIVED}
    return [path for path in paths if not is_overlay(path) or path.parent / case_name(path) not in others]


def _image_of(path: Path, like: Path | None) -> Path:
    """The image that a label map is of: the one given, or that of its name in the folder given."""
    if like is None or not like.is_dir() or any(kind_of(file) == "dicom" for file in like.iterdir() if file.is_file()):
        return like or path
    name = case_name(path)
    names = [name, *(name.removesuffix(end) for end in DERIVED if name.endswith(end))]
    found = [like / one for one in names if (like / one).is_dir()]
    found += [file for one in names for ending in INPUTS if (file := like / f"{one}{ending}").is_file()]
    if not found:
        raise CaseError(f"{name}: no image of its name in {like}; name the image itself with --like")
    return found[0]
