"""DICOM files for tests: made here, small, valid."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

STORAGE = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128",
           "CR": "1.2.840.10008.5.1.4.1.1.1", "US": "1.2.840.10008.5.1.4.1.1.6.1"}  # fmt: skip
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
SERIES = "1.2.826.0.1.3680043.8.498.1"


def write_slice(path: Path, pixels: npt.NDArray, place: tuple[float, float, float] | None, **changes: Any) -> Path:
    """One file of a series: pixels (H, W) or (H, W, 3), `place` of the first one in mm, LPS."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.Modality = changes.pop("Modality", "CT")
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = STORAGE[data.Modality]
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{SERIES}.1", f"{SERIES}.2"
    data.FrameOfReferenceUID = f"{SERIES}.3"
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Test", "1", "", "O"
    data.StudyID, data.StudyDate, data.StudyTime, data.AccessionNumber = "1", "20260101", "120000", ""
    data.ReferringPhysicianName, data.SeriesNumber, data.InstanceNumber = "", 1, 1
    data.Manufacturer, data.PositionReferenceIndicator = "test", ""
    data.Rows, data.Columns = pixels.shape[:2]
    data.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    data.PixelSpacing = [0.5, 0.75]  # between rows, between columns
    data.SliceThickness = 2.0
    if place is not None:
        data.ImagePositionPatient, data.ImageOrientationPatient = list(place), list(AXIAL)
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    for key, value in changes.items():
        setattr(data, key, value)
    data.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, volume: npt.NDArray, *, step: float = 2.0, start: float = -10.0, **changes: Any) -> Path:
    """A volume (K, rows, columns) as a series in a folder; files are named against the order of their places."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(volume):
        place = (5.0, -7.0, start + step * index)
        write_slice(folder / f"{len(volume) - index:03}.dcm", np.ascontiguousarray(pixels), place, **changes)
    return folder
