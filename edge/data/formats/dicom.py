"""DICOM images: a series of slices, one file of several frames, or a single picture."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.formats.dicom_order import GAP, in_order
from edge.data.formats.dicom_series import (
    Header,
    as_of_one_slice,
    quiet_pydicom,
    series_of,
    values_of_frame,
)
from edge.data.geometry import Geometry, make_geometry, picture_geometry
from edge.data.intensity import SUV
from edge.data.names import case_name
from edge.data.scan import IN_SUV, UNSIZED, Reading, Scan, check_scan_size
from edge.errors import CaseError, in_one_line
from edge.notes import Note

MODALITIES = {
    "CT": "CT", "MR": "MR", "PT": "PET", "US": "US", "IVUS": "US", "CR": "X-Ray", "DX": "X-Ray", "XA": "X-Ray",
    "RF": "X-Ray", "RG": "X-Ray", "PX": "X-Ray", "IO": "X-Ray", "MG": "Mammography", "OPT": "OCT", "ES": "Endoscopy",
    "OP": "Fundus", "DMS": "Dermoscopy", "SM": "Microscopy", "GM": "Microscopy",
}  # fmt: skip
MAX_FILE_BYTES = 2**31
INVERTED = "MONOCHROME1"
FREE_BYTES = 2**26  # that pixels may unpack to whatever their packed size
MOST_TIMES = 5000  # the packed size beyond that; a blank slice in JPEG 2000 unpacks to some thousand times its size
LIKE_A_VOLUME = "its frames state no place in space; they are taken as slices one after the other"
THICKNESS = ("SpacingBetweenSlices", "SliceThickness")


def read_scan(path: Path, reading: Reading) -> Scan:
    """The image of a folder with one series, or of the series that a file belongs to.

    Raises:
        CaseError: see `edge.data.formats.dicom_series`; pixels that cannot be decoded; too large.
        RunError: pydicom is not installed.
    """
    try:
        return _read(path, reading)
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:  # values are parsed late
        raise CaseError(
            f"{case_name(path)}: a value in its DICOM header is not what it must be ({in_one_line(error)}); "
            "export it again"
        ) from None


def _read(path: Path, reading: Reading) -> Scan:
    name, headers = case_name(path), series_of(path)
    frames = sum(header.frames for header in headers)
    first = headers[0].dataset
    samples, bits = int(first.get("SamplesPerPixel") or 1), int(first.get("BitsAllocated") or 8)
    size = (int(first.get("Columns") or 0), int(first.get("Rows") or 0), frames)
    check_scan_size(name, size, samples * math.ceil(bits / 8))
    modality = MODALITIES.get(str(first.get("Modality")))
    if len(headers) == 1:
        return _one_file(name, headers[0], modality, reading)
    ordered, step = in_order(name, headers)
    slices = [_read_file(name, header.path) for header in ordered]
    array, slope, intercept = _stack(name, [_pixels(name, one) for one in slices], [_rescale(one) for one in slices])
    geometry = make_geometry(name, _affine(name, ordered[0], step), _shape(array), reading.plane)
    alone = () if path.is_dir() else (Note("a file of a series stands for all of it", f"{len(headers)} files"),)
    notes = alone + _farther_apart(first, float(np.linalg.norm(step)))
    return _in_suv(Scan(name, array, geometry, slope, intercept, modality, notes=notes), slices, reading)


def _farther_apart(header: Any, step_mm: float) -> tuple[Note, ...]:
    """What to say where every second slice may be missing.

    Some scanners state the gap between slices as their distance: one below their thickness says nothing.
    """
    stated, thick = (abs(float(header.get(key) or 0)) for key in ("SpacingBetweenSlices", "SliceThickness"))
    if stated >= thick and 0 < GAP * stated < step_mm:
        return (
            Note("slices lie farther apart than the header says; are some missing?", f"{step_mm:g} of {stated:g} mm"),
        )
    return ()


def _in_suv(scan: Scan, slices: Sequence[Any], reading: Reading) -> Scan:
    """Where SUV are asked for of PET, the scan in these."""
    if reading.window != SUV or scan.modality != "PET":
        return scan
    from edge.data.formats.suv import suv_factor

    factor = suv_factor(scan.name, slices)
    return replace(scan, slope=scan.slope * factor, intercept=scan.intercept * factor, unit=IN_SUV)


def _one_file(name: str, header: Header, modality: str | None, reading: Reading) -> Scan:
    data = _read_file(name, header.path)
    pixels = _pixels(name, data)
    if header.frames > 1:
        return _in_suv(_frames(name, data, pixels, modality, reading), [data], reading)
    slope, intercept = _rescale(data)
    colours = pixels.ndim == 3
    array = pixels.swapaxes(0, 1)[:, :, None] if colours else pixels.T[:, :, None]
    geometry = _flat_geometry(name, header, data, array.shape[:2])
    notes = () if _spacing(data) else (Note(UNSIZED),)
    scale = (1.0, 0.0) if colours else (slope, intercept)
    scan = Scan(name, array, geometry, *scale, modality, flat=True, notes=notes)
    return _in_suv(scan, [data], reading)


def _frames(name: str, data: Any, pixels: npt.NDArray, modality: str | None, reading: Reading) -> Scan:
    """A file of several frames: in their places where these are stated, else one after the other."""
    if pixels.ndim == 4:  # a film in colours: the volume is of greys
        pixels = np.rint(pixels @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
    if not data.get("PerFrameFunctionalGroupsSequence"):
        spacing = _spacing(data) or (1.0, 1.0)
        affine = np.diag([-spacing[1], -spacing[0], _thickness(data), 1.0])
        geometry = make_geometry(name, affine, pixels.shape[::-1], "axial")
        slope, intercept = _rescale(data)
        is_sized = _spacing(data) and any(data.get(key) for key in THICKNESS)
        notes = (Note(LIKE_A_VOLUME, f"{len(pixels)} frames"), *(() if is_sized else (Note(UNSIZED),)))
        return Scan(name, pixels.transpose(2, 1, 0), geometry, slope, intercept, modality, notes=notes)
    found = _frame_headers(name, data)
    if len(found) != len(pixels):
        raise CaseError(f"{name}: states places for {len(found)} frames and has {len(pixels)}")
    ordered, step = in_order(name, found)
    order = [found.index(one) for one in ordered]
    scales = [_rescale(one.dataset) for one in ordered]
    array, slope, intercept = _stack(name, [pixels[frame] for frame in order], scales)
    geometry = make_geometry(name, _affine(name, ordered[0], step), _shape(array), reading.plane)
    return Scan(name, array, geometry, slope, intercept, modality)


def frame_order(name: str, data: Any) -> list[int]:
    """Which frame of a file each slice of its array is."""
    if not data.get("PerFrameFunctionalGroupsSequence"):
        return list(range(int(data.get("NumberOfFrames") or 1)))
    found = _frame_headers(name, data)
    return [found.index(one) for one in in_order(name, found)[0]]


def _frame_headers(name: str, data: Any) -> list[Header]:
    """Of each frame, in the file's order."""
    frames = range(len(data.PerFrameFunctionalGroupsSequence))
    found = [Header(Path(f"frame {frame + 1}"), values_of_frame(data, frame)) for frame in frames]
    directions = {tuple(np.round(one.orientation, 3)) for one in found if one.orientation is not None}
    if len(directions) > 1:
        raise CaseError(f"{name}: its frames lie in {len(directions)} directions; split it into series first")
    return found


def _read_file(name: str, path: Path) -> Any:
    with quiet_pydicom() as pydicom:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise CaseError(f"{name}: {path.name} is larger than {MAX_FILE_BYTES / 2**30:g} GiB, the limit")
            return as_of_one_slice(pydicom.dcmread(path))
        except CaseError:
            raise
        except Exception as error:
            raise CaseError(f"{name}: {path.name} is damaged DICOM ({in_one_line(error)}); export it again") from None


def _pixels(name: str, data: Any) -> npt.NDArray:
    """Stored values (H, W) or (frames, H, W), or colours with (3,) at the end; MONOCHROME1 turned bright to dark."""
    _refuse_bomb(name, data)
    with quiet_pydicom() as pydicom:
        try:
            grey = str(data.get("PhotometricInterpretation"))
            pixels = (
                data.pixel_array if int(data.get("SamplesPerPixel") or 1) == 1 else pydicom.pixels.pixel_array(data)
            )
            in_colour, bits = int(data.get("SamplesPerPixel") or 1) == 3, int(data.get("BitsStored") or 8)
            if grey == "PALETTE COLOR":
                pixels, in_colour, bits = pydicom.pixels.apply_color_lut(pixels, data), True, 16
            if in_colour and pixels.dtype == np.uint16:
                pixels = (pixels >> max(0, bits - 8)).astype(np.uint8)
        except (MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in a decoder written in Rust is no Exception
            how = data.file_meta.get("TransferSyntaxUID") if hasattr(data, "file_meta") else None
            raise CaseError(
                f"{name}: pixels cannot be decoded ({getattr(how, 'name', how)}: {in_one_line(error)}); "
                "pip install 'samedge[dicom]' brings the decoders; if it is there, export it uncompressed"
            ) from None
    if pixels.dtype.kind not in "uif" or pixels.size == 0:
        raise CaseError(f"{name}: pixels are {pixels.dtype} of shape {pixels.shape}, expected numbers")
    if grey == INVERTED:
        bits = int(data.get("BitsStored") or 8)
        total = -1 if int(data.get("PixelRepresentation") or 0) else 2**bits - 1
        pixels = (total - pixels.astype(np.int32)).astype(pixels.dtype)
    return pixels


def _refuse_bomb(name: str, data: Any) -> None:
    """Rows, columns and frames that so few packed bytes cannot hold: memory is claimed by what is announced."""
    counts = [int(data.get(key) or 1) for key in ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel")]
    announced = math.prod(counts) * math.ceil(int(data.get("BitsAllocated") or 8) / 8)
    packed = len(data.get("PixelData") or b"")
    if min(counts) < 1 or announced > max(FREE_BYTES, MOST_TIMES * packed):
        size = " x ".join(map(str, counts))
        raise CaseError(f"{name}: announces {size} px in {packed} bytes of pixel data; export it again")


def _stack(name: str, slices: list[npt.NDArray], scales: list[tuple[float, float]]) -> tuple[npt.NDArray, float, float]:
    """The file array (I, J, K) of slices (H, W) in order, and what makes intensities of it.

    Slices that are scaled each on its own (PET) become floats.
    """
    if any(one.shape != slices[0].shape or one.ndim != 2 for one in slices):
        shapes = sorted({str(one.shape) for one in slices})
        raise CaseError(f"{name}: slices must be greys of one size, got {' and '.join(shapes[:3])}")
    if len(set(scales)) == 1:
        stack = np.empty((len(slices), *slices[0].shape), np.result_type(*slices))
        stack[:] = slices
        return stack.transpose(2, 1, 0), *scales[0]
    scaled = np.empty((len(slices), *slices[0].shape), np.float32)
    for plane, one, (slope, intercept) in zip(scaled, slices, scales, strict=True):
        plane[:] = one * slope + intercept
    return scaled.transpose(2, 1, 0), 1.0, 0.0


def _rescale(data: Any) -> tuple[float, float]:
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    slope = 1.0 if slope in (None, "") else float(slope)
    intercept = 0.0 if intercept in (None, "") else float(intercept)
    return (slope, intercept) if slope and math.isfinite(slope) and math.isfinite(intercept) else (1.0, 0.0)


def _affine(name: str, header: Header, step: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(column, row, slice) -> mm in RAS+."""
    directions, position, spacing = header.orientation, header.position, _spacing(header.dataset)
    if spacing is None or directions is None or position is None:
        raise CaseError(f"{name}: PixelSpacing is missing or not two positive numbers")
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = directions[:3] * spacing[1], directions[3:] * spacing[0]
    affine[:3, 2], affine[:3, 3] = step, position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # DICOM's LPS


def _flat_geometry(name: str, header: Header, data: Any, size: tuple[int, ...]) -> Geometry:
    spacing = _spacing(data) or (1.0, 1.0)
    if header.orientation is None or header.position is None or _spacing(data) is None:
        return picture_geometry(size[1], size[0], spacing)
    normal = np.cross(header.orientation[:3], header.orientation[3:])
    affine = _affine(name, header, normal * _thickness(data))
    i, j = size
    return Geometry(affine, (i, j, 1), (2, 1, 0), (False, False, False), "axial")  # shown as it is stored


def _spacing(data: Any) -> tuple[float, float] | None:
    """Between rows and between columns in mm."""
    for key in ("PixelSpacing", "ImagerPixelSpacing"):
        value = data.get(key)
        if value is not None and value != "" and len(value) == 2 and all(float(one) > 0 for one in value):
            return float(value[0]), float(value[1])
    return None


def _thickness(data: Any) -> float:
    for key in THICKNESS:
        value = data.get(key)
        if value not in (None, "") and float(value) > 0:
            return float(value)
    return 1.0


def _shape(array: npt.NDArray) -> tuple[int, int, int]:
    i, j, k = array.shape
    return i, j, k
