"""DICOM RT Structure Set: contours of each label, along the edges of its voxels.

A voxel belongs to a contour's inside when its middle does, so that who fills the contours has the label map again.
Where a label has holes on any slice its contours are CLOSEDPLANAR_XOR, outer and inner ones alike.
"""

import datetime
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.case import Case
from edge.data.files import write_whole
from edge.data.formats.dicom_seg import MAKER, SERIES_NUMBER
from edge.data.formats.dicom_series import quiet_pydicom
from edge.data.formats.dicom_source import DicomSource
from edge.errors import CaseError, in_one_line

OFF_SLICE = 0.25  # of the slices' distance, that a contour may lie beside its slice
STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED = "CLOSED"  # how the type of a contour around an area begins
COLOURS = ((230, 60, 60), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240), (240, 50, 230))
COPIED = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime",
          "StudyID", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator",
          "SpecificCharacterSet")  # fmt: skip

Loop = npt.NDArray[np.float64]  # (N, 2) corners x y in pixels, half a pixel beside the middles


def write_rtstruct(path: Path, case: Case, labels: npt.NDArray, source: DicomSource) -> None:
    """Write the contours of a case's labels; label k is region k.

    Raises:
        RunError: the file cannot be written.
    """
    with quiet_pydicom():
        data = _empty(source)
        slices = source.slices(labels)
        for row in range(len(case.boxes)):
            named = case.label_names[row] if row < len(case.label_names) else ""
            _add(data, row, named or f"box {row + 1}", _contours(slices == row + 1, source))
        content = io.BytesIO()
        data.save_as(content, enforce_file_format=True)
    write_whole(path, content.getvalue())


def outline(mask: npt.NDArray[np.bool_]) -> list[Loop]:
    """Closed loops along the pixel edges of a mask (H, W): outer ones and holes, without corners on a straight line."""
    padded = np.pad(mask, 1).astype(np.int8)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # an edge between a pixel and the one above (left of) it, walked with the mask on the right
    for y, x in np.argwhere(np.diff(padded, axis=0) != 0).tolist():
        ends = [(x, y + 1), (x + 1, y + 1)]
        start, end = ends if padded[y + 1, x] else ends[::-1]
        following.setdefault(start, []).append(end)
    for y, x in np.argwhere(np.diff(padded, axis=1) != 0).tolist():
        ends = [(x + 1, y + 1), (x + 1, y)]
        start, end = ends if padded[y, x + 1] else ends[::-1]
        following.setdefault(start, []).append(end)
    loops = []
    while following:
        first = next(iter(following))
        loop, here, came = [first], first, (0, 0)
        while True:
            nexts = following[here]
            # where two pixels touch at a corner: turn towards the own pixel, so that loops do not cross
            turns = [one for one in nexts if (one[0] - here[0], one[1] - here[1]) == (-came[1], came[0])]
            end = turns[0] if turns else nexts[0]
            nexts.remove(end)
            if not nexts:
                del following[here]
            came, here = (end[0] - here[0], end[1] - here[1]), end
            if here == first:
                break
            loop.append(here)
        loops.append(_without_straight_corners(np.array(loop, np.float64) - 1.5))  # the padding, and half a pixel
    return loops


def _without_straight_corners(loop: Loop) -> Loop:
    before, after = np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0)
    return loop[((after - loop) != (loop - before)).any(axis=1)]


def _contours(mask: npt.NDArray[np.bool_], source: DicomSource) -> list[tuple[Any, str, npt.NDArray[np.float64]]]:
    """Header of the slice, kind and points (N, 3) in mm, LPS, of every contour of a mask (K, rows, columns)."""
    found = [(index, loop) for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist() for loop in outline(mask[index])]
    kind = "CLOSEDPLANAR_XOR" if any(_area(loop) < 0 for _, loop in found) else "CLOSED_PLANAR"
    contours = []
    for index, loop in found:
        indices = np.column_stack([loop, np.full(len(loop), index)])
        points = indices @ source.geometry.affine[:3, :3].T + source.geometry.affine[:3, 3]
        contours.append((source.headers[index], kind, points * (-1, -1, 1)))
    return contours


def _area(loop: Loop) -> float:
    """Of a loop in square pixels; negative around a hole."""
    x, y = loop.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def _empty(source: DicomSource) -> Any:
    """A structure set without regions, in the study of its images."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    first, now, data = source.headers[0], datetime.datetime.now(), Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UID(STORAGE)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    for key in COPIED:
        if key in first:
            setattr(data, key, first.get(key))
        elif key not in ("SpecificCharacterSet",):
            setattr(data, key, "")
    data.Modality, data.Manufacturer, data.ManufacturerModelName = "RTSTRUCT", MAKER, MAKER
    data.SeriesInstanceUID, data.SeriesNumber = generate_uid(), SERIES_NUMBER + 1
    data.InstanceNumber, data.StructureSetLabel = 1, MAKER
    data.OperatorsName, data.SeriesDescription, data.ApprovalStatus = "", "samedge contours", "UNAPPROVED"
    data.StructureSetDate = data.InstanceCreationDate = now.strftime("%Y%m%d")
    data.StructureSetTime = data.InstanceCreationTime = now.strftime("%H%M%S")
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    series.ContourImageSequence = [_reference(header) for header in source.headers]
    study.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    study.ReferencedSOPInstanceUID = first.StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID = first.FrameOfReferenceUID
    frame.RTReferencedStudySequence = [study]
    data.ReferencedFrameOfReferenceSequence = [frame]
    data.StructureSetROISequence, data.ROIContourSequence, data.RTROIObservationsSequence = [], [], []
    return data


def _add(data: Any, row: int, name: str, contours: list[tuple[Any, str, npt.NDArray[np.float64]]]) -> None:
    from pydicom.dataset import Dataset

    region, outlined, observed = Dataset(), Dataset(), Dataset()
    region.ROINumber = outlined.ReferencedROINumber = observed.ReferencedROINumber = row + 1
    observed.ObservationNumber = row + 1
    region.ReferencedFrameOfReferenceUID = data.FrameOfReferenceUID
    region.ROIName, region.ROIGenerationAlgorithm = name[:64], "SEMIAUTOMATIC"
    outlined.ROIDisplayColor = list(COLOURS[row % len(COLOURS)])
    outlined.ContourSequence = []
    for header, kind, points in contours:
        contour = Dataset()
        contour.ContourImageSequence = [_reference(header)]
        contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
        contour.ContourData = [f"{number:.6f}".rstrip("0").rstrip(".") for number in points.ravel()]
        outlined.ContourSequence.append(contour)
    observed.RTROIInterpretedType, observed.ROIInterpreter = "", ""
    data.StructureSetROISequence.append(region)
    data.ROIContourSequence.append(outlined)
    data.RTROIObservationsSequence.append(observed)


def _reference(header: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    return item


def read_masks(path: Path, source: DicomSource) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Number and mask (D, H, W) of each of a structure set's regions in order, from 1, on the images it is of.

    Contours of one region on one slice cut holes into each other; points and open lines enclose nothing. Regions may
    overlap.

    Raises:
        CaseError: it is of other images, or a contour lies on none of the slices.
    """
    geometry = source.geometry
    with quiet_pydicom() as pydicom:
        try:
            data = pydicom.dcmread(path)
            regions = [_points_of(region) for region in data.ROIContourSequence]
            frames = _frames_of_reference(data)
        except Exception as error:
            raise CaseError(
                f"{source.name}: {path.name} is no structure set that can be read ({in_one_line(error)})"
            ) from None
    if (own := str(source.headers[0].get("FrameOfReferenceUID") or "")) and frames and own not in frames:
        raise CaseError(f"{source.name}: {path.name} is a structure set of other images (another frame of reference)")
    i, j, k = geometry.file_shape
    to_indices = np.linalg.inv(geometry.affine)
    for label, contours in enumerate(regions, start=1):
        inside = np.zeros((k, j, i), np.bool_)
        for points in contours:
            indices = points * (-1, -1, 1) @ to_indices[:3, :3].T + to_indices[:3, 3]
            place = int(np.rint(indices[:, 2].mean()))
            if not 0 <= place < k or np.abs(indices[:, 2] - place).max() > OFF_SLICE:
                raise CaseError(f"{source.name}: {path.name} has a contour of region {label} that lies on no slice")
            inside[place] ^= filled(indices[:, :2], (j, i))
        yield label, geometry.to_volume(inside.T)


def _frames_of_reference(data: Any) -> set[str]:
    """In which a structure set says that its regions lie."""
    stated = [region.get("ReferencedFrameOfReferenceUID") for region in data.get("StructureSetROISequence") or []]
    stated += [frame.get("FrameOfReferenceUID") for frame in data.get("ReferencedFrameOfReferenceSequence") or []]
    return {str(one) for one in stated if one}


def filled(loop: Loop, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels (H, W) whose middles lie inside a closed loop of corners x y."""
    inside, columns = np.zeros(shape, np.bool_), np.arange(shape[1])
    for (x0, y0), (x1, y1) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
        low, high = (y0, y1) if y0 <= y1 else (y1, y0)
        rows = np.arange(max(0, int(np.ceil(low))), min(shape[0], int(np.ceil(high))))
        if len(rows):
            crossings = x0 + (rows - y0) / (y1 - y0) * (x1 - x0)
            inside[rows] ^= columns < crossings[:, None]
    return inside


def _points_of(region: Any) -> list[npt.NDArray[np.float64]]:
    """Of its closed contours."""
    contours = region.get("ContourSequence") or []
    closed = [one for one in contours if str(one.get("ContourGeometricType") or CLOSED).upper().startswith(CLOSED)]
    return [np.array([float(number) for number in one.ContourData]).reshape(-1, 3) for one in closed]
