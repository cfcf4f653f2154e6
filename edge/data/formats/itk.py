"""NRRD and MHA through SimpleITK (extra `itk`)."""

import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from edge.data.geometry import make_geometry, picture_geometry
from edge.data.names import case_name
from edge.data.scan import UNSIZED, Reading, Scan, check_file, check_scan_size
from edge.errors import CaseError, RunError, in_one_line
from edge.notes import Note

MAX_HEADER = 2**16
CHUNK = 2**20
IN_ONE = rb"(?i)ElementDataFile\s*=\s*LOCAL[ \t]*\r?\n"
NOWHERE = "its header states no directions; its voxels are taken as lying along the axes, 1 mm apart"


def read_scan(path: Path, reading: Reading) -> Scan:
    """A file's voxels and geometry.

    Raises:
        CaseError: damaged, too large, or with several numbers a voxel.
        RunError: SimpleITK is not installed.
    """
    name = case_name(path)
    check_file(path, name)
    _refuse_detached(name, path)
    itk = _library()
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = tuple(int(length) for length in reader.GetSize())
        check_scan_size(name, size, 8 * max(1, reader.GetNumberOfComponents()))
        if reader.GetNumberOfComponents() != 1 or not 2 <= len(size) <= 4:
            raise CaseError(f"{name}: must be 2D or 3D with one number a voxel, got size {size}")
        _check_volume(name, size, reading.volume)
        image = reader.Execute()
    except RuntimeError as error:
        reason = in_one_line(RuntimeError(str(error).strip().rpartition("\n")[2]))  # its last line says most
        raise CaseError(f"{name}: {path.name} cannot be read ({reason}); write it again") from None
    if len(size) == 4:
        image = image[..., reading.volume or 0]
    array = itk.GetArrayFromImage(image)
    if path.suffix.lower() == ".mha":
        _refuse_damaged(name, path, math.prod(size) * array.itemsize)
    notes = (Note(NOWHERE), Note(UNSIZED)) if path.suffix.lower() == ".nrrd" and not _states_directions(path) else ()
    if len(size) == 2:
        rows, columns = (float(one) for one in image.GetSpacing()[::-1])
        geometry = picture_geometry(array.shape[0], array.shape[1], (rows, columns))
        return Scan(name, array.T[:, :, None], geometry, flat=True, notes=notes)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # ITK's LPS
    geometry = make_geometry(name, affine, array.shape[::-1], reading.plane)
    return Scan(name, array.transpose(2, 1, 0), geometry, notes=notes)


def _check_volume(name: str, size: tuple[int, ...], volume: int | None) -> None:
    count = size[3] if len(size) == 4 else 1
    if count > 1 and volume is None:
        raise CaseError(f"{name}: holds {count} volumes; choose one with --volume 0 to {count - 1}")
    if not 0 <= (volume or 0) < count:
        raise CaseError(f"{name}: holds {count} volumes, --volume {volume} is none of them; count from 0")


def _refuse_detached(name: str, path: Path) -> None:
    """A header that names other files to read the voxels from: what lies there is nobody's image."""
    with path.open("rb") as file:
        start = file.read(MAX_HEADER)
    words = re.split(rb"\n\s*\n" if path.suffix.lower() == ".nrrd" else IN_ONE, start, maxsplit=1)[0]
    if re.search(rb"(?im)^(data ?file\s*:|ElementDataFile\s*=)", words):
        raise CaseError(f"{name}: {path.name} has its voxels in another file; save it in one piece")


def _states_directions(path: Path) -> bool:
    with path.open("rb") as file:
        return re.search(rb"(?im)^(space directions|spacings)\s*:", file.read(MAX_HEADER)) is not None


def _refuse_damaged(name: str, path: Path, nbytes: int) -> None:
    """Compressed voxels that are not what was written: ITK reads on after a damaged place, and says it on stderr only.

    Args: nbytes: of all voxels.
    """
    with path.open("rb") as file:
        start = file.read(MAX_HEADER)
        found = re.search(IN_ONE, start)
        if found is None or not re.search(rb"(?im)^CompressedData\s*=\s*True", start[: found.end()]):
            return
        file.seek(found.end())
        stream, count = zlib.decompressobj(), 0
        try:
            while not stream.eof and count <= nbytes and (chunk := stream.unconsumed_tail or file.read(CHUNK)):
                count += len(stream.decompress(chunk, CHUNK))
        except zlib.error:
            count = -1
    if count != nbytes:
        raise CaseError(f"{name}: {path.name} is damaged, its voxels cannot be unpacked; copy or write it again")


def _library() -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise RunError("reading NRRD and MHA needs SimpleITK: pip install 'samedge[itk]'") from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK
