"""The objects in a label map, a DICOM SEG or an RTSTRUCT, on the voxels of the case that they are of."""

import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.case import Case
from edge.data.datasets import label_names
from edge.data.formats.dicom_series import quiet_pydicom, read_header
from edge.data.formats.registry import kind_of, labels_for
from edge.data.labels import MAX_LABEL, label_dtype, numbers_in, some
from edge.data.names import case_name
from edge.data.outputs import SIDECAR
from edge.errors import CaseError, CaseWarning


def masks_of_case(case: Case, path: Path, file: Path) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Number and mask, (D, H, W) or (H, W), of each object in a file, on the voxels of the case, in ascending order.

    Those of a DICOM SEG or RTSTRUCT may overlap.

    Args: path: that the case was read from.

    Raises:
        CaseError: see `labels_for`; of other images.
    """
    what = _derived(file)
    if what is None:
        labels = labels_for(case, file)
        yield from ((number, labels == number) for number in numbers_in(labels).tolist())
        return
    from edge.data.formats.dicom_source import read_source

    module = import_module(f"edge.data.formats.{'dicom_seg' if what == 'SEG' else 'rtstruct'}")
    for number, mask in module.read_masks(file, read_source(path, case)):
        if mask.any():
            yield number, mask.reshape(case.shape)


def labels_of_case(case: Case, path: Path, file: Path) -> npt.NDArray:
    """The labels, (D, H, W) or (H, W), in a file, which may be a DICOM SEG or RTSTRUCT.

    Where objects overlap, the smaller one's, with a warning.

    Raises:
        CaseError: see `masks_of_case`; smaller objects cover one, so that nothing of it is left.
    """
    if _derived(file) is None:
        return labels_for(case, file)
    labels, sizes, shared, numbers = np.zeros(case.shape, np.uint16), np.full(MAX_LABEL + 1, np.inf), 0, list[int]()
    for number, mask in masks_of_case(case, path, file):
        owners, sizes[number] = labels[mask], np.count_nonzero(mask)
        labels[mask] = np.where(sizes[owners] >= sizes[number], number, owners)
        shared += int(np.count_nonzero(owners))
        numbers.append(number)
    if hidden := sorted(set(numbers) - set(numbers_in(labels).tolist())):
        raise CaseError(
            f"{case.name}: in {file.name} smaller objects cover all of {some(hidden)}, and a label map has one number "
            "for each voxel; take one of them out"
        )
    if shared:
        what = f"{case.name}: objects in {file.name} overlap in {shared} voxels, which go to the smaller one"
        warnings.warn(what, CaseWarning, stacklevel=2)
    return labels.astype(label_dtype(max(numbers, default=0)), copy=False)


def names_of_labels(file: Path) -> dict[int, str]:
    """What the numbers of a label map are called: by a SEG or RTSTRUCT itself, by nnU-Net's dataset.json, or by
    predict's JSON file beside it.
    """
    what = _derived(file)
    if what is None:
        from edge.data.sidecar import names_in

        return label_names(file) or names_in(file.parent / f"{case_name(file)}{SIDECAR}")
    with quiet_pydicom() as pydicom:
        data = pydicom.dcmread(file, stop_before_pixels=True)
        if what == "SEG":
            return {int(one.SegmentNumber): str(one.SegmentLabel) for one in data.SegmentSequence}
        names = {one.ROINumber: str(one.get("ROIName") or "") for one in data.StructureSetROISequence}
        return {label: names.get(one.ReferencedROINumber, "") for label, one in enumerate(data.ROIContourSequence, 1)}


def _derived(file: Path) -> str | None:
    """SEG or RTSTRUCT; None: something else."""
    if file.is_dir() or kind_of(file) != "dicom":
        return None
    what = str(read_header(file).dataset.get("Modality"))
    return what if what in ("SEG", "RTSTRUCT") else None
