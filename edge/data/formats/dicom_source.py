"""The DICOM images that a label map is of, slice for slice, for what refers to them."""

from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.case import Case
from edge.data.formats.dicom import frame_order
from edge.data.formats.dicom_order import in_order
from edge.data.formats.dicom_series import quiet_pydicom, series_of
from edge.data.geometry import Geometry
from edge.errors import CaseError, RunError

NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
SEXES = ("M", "F", "O", "")
NIFTI_INSTEAD = "choose --format nifti"


@dataclass(frozen=True)
class DicomSource:
    """One file a slice in the order of the file's array, or one file of all frames."""

    name: str
    files: list[Path]
    headers: list[Any]  # pydicom's, without pixels
    order: list[int] | None  # of a file of several frames: which frame each slice is; None: files are in order
    geometry: Geometry

    def check(self, formats: tuple[str, ...]) -> None:
        """Whether others can refer to these images.

        Raises:
            CaseError: they lack identifiers, or a place in the patient where one is needed.
            RunError: highdicom is not installed.
        """
        for file, header in zip(self.files, self.headers, strict=True):
            if missing := [key for key in NEEDED if not header.get(key)]:
                raise CaseError(
                    f"{self.name}: {file.name} has no {missing[0]}, without which DICOM labels refer to nothing; "
                    f"{NIFTI_INSTEAD}"
                )
        in_frames = self.order is not None
        if "dicom-seg" in formats and in_frames and not self.headers[0].get("PerFrameFunctionalGroupsSequence"):
            raise CaseError(
                f"{self.name}: its frames have no places of their own, which DICOM SEG refers to; {NIFTI_INSTEAD}"
            )
        if "rtstruct" in formats and (in_frames or not self.headers[0].get("FrameOfReferenceUID")):
            raise CaseError(
                f"{self.name}: RTSTRUCT needs slices in files of their own and a FrameOfReferenceUID; {NIFTI_INSTEAD}"
            )
        if "dicom-seg" in formats and find_spec("highdicom") is None:
            raise RunError("writing DICOM SEG needs highdicom: pip install 'samedge[dicom]'")

    def slices(self, labels: npt.NDArray) -> npt.NDArray:
        """A case's labels as slices (K, rows, columns), in the order of the files or frames."""
        slices = self.geometry.to_file(labels.reshape(self.geometry.shape)).T
        if self.order is None:
            return np.ascontiguousarray(slices)
        placed = np.empty_like(slices)
        placed[self.order] = slices
        return placed


def read_source(path: Path, case: Case) -> DicomSource:
    """The images of a case that was read from `path`.

    Raises:
        CaseError: they cannot be read any more.
    """
    if case.geometry is None:
        raise CaseError(f"{case.name}: its geometry is not known; {NIFTI_INSTEAD}")
    headers = series_of(path)
    files = [header.path for header in headers]
    if len(headers) > 1:
        files = [header.path for header in in_order(case.name, headers)[0]]
    with quiet_pydicom() as pydicom:
        found = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
        for header in found:
            _decode(header)
            header.SpecificCharacterSet = "ISO_IR 192"  # of what is written: labels may be in any script
            if header.get("PatientSex") not in (*SEXES, None):  # as some de-identify; what is written refuses it
                header.PatientSex = ""
    order = frame_order(case.name, found[0]) if headers[0].frames > 1 else None
    return DicomSource(case.name, files, found, order, case.geometry)


def _decode(header: Any) -> None:
    """Texts out of the header's own character set, those in sequences too, before it states another.

    Values that cannot be read stay as they are: nothing here needs them.
    """
    for tag in list(header.keys()):
        with suppress(Exception):  # pydicom's parts raise what they do
            if header[tag].VR == "SQ":
                for item in header[tag].value:
                    _decode(item)
