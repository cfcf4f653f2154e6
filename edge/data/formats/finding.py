"""Which files are cases: of a folder, a data set or a store; and all that a case is read from."""

from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby, islice
from pathlib import Path

from edge.data.case import find_cases
from edge.data.datasets import dataset_images, dataset_truth, first_channels, is_dataset
from edge.data.folders import files_in, files_within, folders_within
from edge.data.formats.dicom_series import find_series, is_dicom
from edge.data.formats.registry import is_truth, kind_of, truth_beside
from edge.data.names import DICOM, INPUTS, TRUTH, address_of, case_name, is_channel, is_folder, is_remote
from edge.errors import CaseError

LOOKED_INTO = 100  # folders within one without a case, for what it may be that is meant


def find_inputs(
    inputs: Path, *, recursive: bool = False, leave_out: Path | None = None, remote: bool = False
) -> list[Path]:
    """The cases of a folder or data set in name order, of whatever kind, or the one given; truths are left out.

    A picture that lies beside another file of its name is taken for a view of it and passed over. For the arguments see
    `edge.data.case.find_cases`.

    Args: remote: whether an address in an object store will do; there a folder of DICOM is a series.

    Raises:
        CaseError: nothing there, not readable, or no case among it.
    """
    if is_remote(inputs) and not remote:
        raise CaseError(f"{address_of(inputs)}: only predict and evaluate read object stores; copy it to a disk")
    if is_dataset(inputs):
        return _of_dataset(inputs)
    series = _find_dicom(inputs, recursive, leave_out) if is_folder(inputs) else []
    types = tuple(ending for ending in INPUTS if ending not in DICOM)
    try:
        found = find_cases(inputs, types, recursive=recursive, leave_out=leave_out)
    except CaseError as error:
        is_told = "there is" in str(error) or recursive or not is_folder(inputs)
        if not series and not is_told and (nested := _nested_dicom(inputs, leave_out)):
            raise CaseError(f"{error}; there is DICOM in {nested}: give that folder, or --recursive") from None
        if not series:
            raise
        return sorted(series)
    if not is_folder(inputs):
        return found
    cases = [path for path in found if kind_of(path) != "picture" and not is_truth(path)]
    named = {(path.parent, case_name(path)) for path in cases}
    pictures = [path for path in found if kind_of(path) == "picture" and not is_truth(path)]
    chosen = cases + series + [path for path in pictures if (path.parent, case_name(path)) not in named]
    if not chosen:
        raise CaseError(f"{inputs}: no case in this folder, only truths (*{TRUTH}.*)")
    if is_remote(inputs) and any(map(is_channel, chosen)):
        raise CaseError(f"{address_of(inputs)}: data sets of nnU-Net are read from a disk; copy it to one")
    return first_channels(chosen)


def image_of(truth: Path, root: Path) -> Path | None:
    """The case that a truth in the folder or data set `root` is of; None: there is none."""
    if kind_of(truth) == "npz":
        return truth
    if is_dataset(root):
        return next((image for image in dataset_images(root) if dataset_truth(image) == truth), None)
    stem = truth.parent / case_name(truth).removesuffix(TRUTH)
    beside = [stem, *(Path(f"{stem}{ending}") for ending in INPUTS)]
    return next((path for path in beside if path.exists() and path != truth), None)


def files_of(path: Path) -> Iterator[Path]:
    """All that a case is read from but its boxes, in an order that stays: itself, of a folder its files, its truth.

    Raises:
        CaseError: see `truth_beside`.
    """
    yield from sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else _with_voxels(path)
    if kind_of(path) != "npz" and (truth := truth_beside(path)):
        yield from _with_voxels(truth)


def _find_dicom(inputs: Path, recursive: bool, leave_out: Path | None) -> list[Path]:
    found: list[Path] = []
    if is_remote(inputs):  # what is in the files is not known yet
        files = files_in(inputs, ("",)) + (list(files_within(inputs, ("",), leave_out)) if recursive else [])
        grouped = groupby(sorted(files), key=lambda path: path.parent)
        return [folder for folder, files in grouped if any(map(is_dicom, files))]
    for folder in [inputs, *(folders_within(inputs, leave_out) if recursive else [])]:
        try:
            files = [path for path in folder.iterdir() if path.name[0] != "." and is_dicom(path) and path.is_file()]
        except OSError:
            continue  # named by what looks for the other kinds
        found += find_series(files) if files else []
    return found


def _nested_dicom(inputs: Path, leave_out: Path | None) -> Path | None:
    """The first folder within one on a disk that holds a series."""
    folders = [] if is_remote(inputs) else islice(folders_within(inputs, leave_out), LOOKED_INTO)
    return next((folder for folder in folders if _find_dicom(folder, False, leave_out)), None)


def _of_dataset(folder: Path) -> list[Path]:
    if found := dataset_images(folder):
        return found
    raise CaseError(f"{folder}: a data set without images; expected imagesTr/*_0000.nii.gz or sub-*/anat/*.nii.gz")


def _with_voxels(path: Path) -> list[Path]:
    """A file, and the one beside it that its header says holds the voxels."""
    if kind_of(path) != "itk":
        return [path]
    from edge.data.formats.itk import voxels_of

    with suppress(CaseError, OSError):  # which reading says
        return [one for one in dict.fromkeys([path, voxels_of(path)]) if one.is_file()]
    return [path]
