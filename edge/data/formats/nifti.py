"""NIfTI-1 and NIfTI-2 in one file, `.nii` and `.nii.gz`: read within the sizes their headers announce, and written.

nibabel reads headers and affines; the voxels are read here, so that no more is unpacked than was checked and extensions
are never looked at.
"""

import gzip
import io
import logging
import math
import zlib
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt

from edge.data.files import write_whole
from edge.data.geometry import Geometry, make_geometry
from edge.data.names import case_name
from edge.data.scan import IN_GREYS, Reading, Scan, check_file, check_scan_size
from edge.errors import CaseError, RunError, in_one_line
from edge.notes import Note

HEADER_BYTES = {348: "Nifti1Header", 540: "Nifti2Header"}  # the first number of a file -> class of nibabel
ORDERS: tuple[Literal["little", "big"], ...] = ("little", "big")
AFTER = 2**20  # bytes after the voxels of a file that are looked at
MM = {"meter": 1000.0, "micron": 0.001}  # of units other than mm
MAX_OFFSET = 2**26  # of the voxels; extensions stand before them
APART_MM = 0.5  # sform and qform that put a corner voxel this far apart
AGREE = "sform and qform disagree; the sform is used, as nibabel does"
NOWHERE = "neither sform nor qform is set; voxels are taken to run to the left, the front and the head"
GZIP = b"\x1f\x8b"
_GREYS = f"samedge {IN_GREYS}".encode()  # as a header's description


def read_scan(path: Path, reading: Reading) -> Scan:
    """A NIfTI file's voxels and geometry.

    Raises:
        CaseError: damaged, too large, in colours, or of several volumes of which none was chosen.
    """
    name = case_name(path)
    check_file(path, name)
    try:
        with path.open("rb") as raw, _unzipped(raw) as file:
            header = _read_header(file, name)
            shape, notes = _shape(name, header, reading.volume)
            dtype = _dtype(name, header)
            size = check_scan_size(name, shape, dtype.itemsize)
            offset = float(header["vox_offset"])
            if not header.sizeof_hdr <= offset <= MAX_OFFSET:
                raise CaseError(f"{name}: {path.name} has its voxels at byte {offset:g}; write it again with nibabel")
            _skip(file, int(offset) - file.tell() + (reading.volume or 0) * size)
            content = _read(file, size)
            if reading.volume is None:
                _skip(file, AFTER)  # where it is compressed, its checksum stands at its end
    except (EOFError, zlib.error, OSError) as error:
        raise CaseError(f"{name}: {path.name} cannot be read ({in_one_line(error)}); copy or write it again") from None
    if len(content) < size:
        raise CaseError(f"{name}: {path.name} is cut short, {len(content)} of {size} bytes; copy it again")
    array = np.frombuffer(content, dtype).reshape(shape, order="F")
    affine, told = _affine(name, header, shape)
    slope, intercept = _slope(name, header)
    geometry = make_geometry(name, affine, shape, reading.plane)
    in_greys = dtype == np.uint8 and header["descrip"].item() == _GREYS
    return Scan(name, array, geometry, slope, intercept, unit=IN_GREYS if in_greys else None, notes=(*notes, *told))


def write_labels(path: Path, labels: npt.NDArray, geometry: Geometry, like: Path | None = None) -> None:
    """A label map in the volume's order, (D, H, W) or (H, W), on the voxels of the file that it is of.

    Args:
        like: the NIfTI file whose sform, qform and their codes are kept; None: the geometry's affine is the sform.

    Raises:
        RunError: the file cannot be written.
    """
    import nibabel

    array, header = (
        np.ascontiguousarray(geometry.to_file(labels.reshape(geometry.shape))),
        None if like is None else _header_of(like),
    )
    if header is not None and math.prod(header.get_data_shape()) == array.size:
        array = array.reshape(header.get_data_shape())  # of two axes, or with one volume along a fourth
    image: Any = nibabel.nifti1.Nifti1Image(array, geometry.affine)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"samedge label map"
    if header is None:
        image.set_sform(geometry.affine, 1)
        image.set_qform(geometry.affine, 1)
    else:
        _keep_forms(image, header)
    plain = image.to_bytes()
    write_whole(path, gzip.compress(plain, 6, mtime=0) if path.name.lower().endswith(".gz") else plain)


def write_volume(path: Path, array: npt.NDArray, affine: npt.NDArray, *, in_greys: bool) -> None:
    """An array (I, J, K) with its affine; for `samedge cases convert`.

    Args: in_greys: it holds greys 0 to 255, which are not to be windowed when they are read again.
    """
    import nibabel

    image: Any = nibabel.nifti1.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = _GREYS if in_greys else b""
    plain = image.to_bytes()
    write_whole(path, gzip.compress(plain, 6, mtime=0) if path.name.lower().endswith(".gz") else plain)


def _header_of(path: Path) -> Any:
    with path.open("rb") as raw, _unzipped(raw) as file:
        return _read_header(file, case_name(path))


def _keep_forms(image: Any, header: Any) -> None:
    for key in (
        "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
        "srow_x", "srow_y", "srow_z", "xyzt_units",
    ):  # fmt: skip
        image.header[key] = header[key]
    image.header["pixdim"][:4] = header["pixdim"][:4]
    # nibabel would write the affine it was given over the header's forms, were they not the same
    image._affine = image.header.get_best_affine()


def _unzipped(raw: IO[bytes]) -> IO[bytes]:
    start = raw.read(2)
    raw.seek(0)
    return gzip.GzipFile(fileobj=raw) if start == GZIP else io.BufferedReader(raw)  # type: ignore[type-var,return-value]


def _read_header(file: IO[bytes], name: str) -> Any:
    try:
        import nibabel
    except ImportError:
        raise RunError("reading NIfTI needs nibabel: pip install nibabel") from None
    start = file.read(4)
    size = next((size for size in HEADER_BYTES for order in ORDERS if int.from_bytes(start, order) == size), None)
    if size is None:
        raise CaseError(f"{name}: not a NIfTI file of one piece; save it as .nii.gz")
    content = start + file.read(size - 4)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what is odd is said in our words, or not at all
    try:
        return getattr(nibabel, HEADER_BYTES[size])(content, check=True)
    except Exception as error:  # nibabel names many
        raise CaseError(f"{name}: damaged NIfTI header ({in_one_line(error)}); write it again") from None


def _shape(name: str, header: Any, volume: int | None) -> tuple[tuple[int, int, int], tuple[Note, ...]]:
    try:
        shape = tuple(int(length) for length in header.get_data_shape())
    except Exception as error:
        raise CaseError(f"{name}: damaged NIfTI header ({in_one_line(error)}); write it again") from None
    i, j, k = (*shape, 1, 1, 1)[:3]
    count = int(np.prod(shape[3:4], dtype=np.int64))
    if any(length > 1 for length in shape[4:]):
        raise CaseError(f"{name}: has shape {shape}; expected one volume, or several along the fourth axis")
    if count > 1 and volume is None:
        raise CaseError(f"{name}: holds {count} volumes (shape {shape}); choose one with --volume 0 to {count - 1}")
    if not 0 <= (volume or 0) < max(count, 1):
        raise CaseError(f"{name}: holds {count} volumes, --volume {volume} is none of them; count from 0")
    notes = (Note("of several volumes one is used", f"volume {volume} of {count}"),) if count > 1 else ()
    return (i, j, k), notes


def _dtype(name: str, header: Any) -> np.dtype:
    dtype = np.dtype(header.get_data_dtype())
    if dtype.names or dtype.kind not in "uif":
        raise CaseError(f"{name}: must hold real numbers, got {dtype}; save colours or complex numbers as one channel")
    return dtype


def _affine(name: str, header: Any, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float64], tuple[Note, ...]]:
    try:
        unit_mm = np.diag([MM.get(header.get_xyzt_units()[0], 1.0)] * 3 + [1.0])
        affine = unit_mm @ np.asarray(header.get_best_affine(), np.float64)
        if not (header["sform_code"] > 0 or header["qform_code"] > 0):
            return affine, (Note(NOWHERE),)
        if header["sform_code"] > 0 and header["qform_code"] > 0:
            corner = np.array([*(length - 1 for length in shape), 1.0])
            apart = float(np.abs((affine - unit_mm @ header.get_qform()) @ corner).max())
            if apart > APART_MM:
                return affine, (Note(AGREE, f"{apart:.1f} mm apart"),)
        return affine, ()
    except Exception as error:  # nibabel raises several kinds for quaternions that turn nothing
        raise CaseError(
            f"{name}: damaged orientation in its header ({in_one_line(error)}); mend its sform or qform"
        ) from None


def _slope(name: str, header: Any) -> tuple[float, float]:
    try:
        slope, intercept = header.get_slope_inter()
    except Exception as error:
        raise CaseError(f"{name}: damaged scl_slope or scl_inter ({in_one_line(error)}); write it again") from None
    return (1.0, 0.0) if slope is None else (float(slope), float(intercept or 0.0))


def _skip(file: IO[bytes], count: int) -> None:
    while count > 0:
        passed = len(file.read(min(count, 2**22)))
        if not passed:
            return
        count -= passed


def _read(file: IO[bytes], size: int) -> bytearray:
    content = bytearray()  # grows with what really comes
    while len(content) < size and (piece := file.read(min(size - len(content), 2**24))):
        content += piece
    return content
