"""NRRD and MetaImage through SimpleITK (extra `itk`); the voxels may lie in one file beside the header."""

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from edge.data.geometry import make_geometry, picture_geometry
from edge.data.names import case_name
from edge.data.scan import UNSIZED, Reading, Scan, check_file, check_scan_size
from edge.errors import CaseError, RunError, in_one_line
from edge.notes import Note

MAX_HEADER = 2**20  # of a segmentation with a hundred segments 84 kB
CHUNK = 2**16
ZLIB_OR_GZIP = 47  # of zlib: which of the two, its first bytes say
GZIP = b"\x1f\x8b"
NRRD = (".nrrd", ".nhdr")
# The header, and the line in it that names the file with the voxels; that word may stand nowhere else, as the libraries
# end and trim lines in ways of their own, and read what they take for an absolute path.
HEADERS = {True: rb"(?s).*?(?:\n\r?\n|\Z)", False: rb"(?s).*?\n[ \t]*ElementDataFile[^\n]*(?:\n|\Z)"}  # is it NRRD?
NAMING = {True: rb"(?im)^data ?file:(.*)$", False: rb"(?m)^ElementDataFile *[=:](.*)$"}
WORDS = {True: rb"(?i)data[ _]?file", False: rb"(?i)element_?data_?file"}
CONTROL = rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)"
BESIDE = r"(?!LIST)\w[^/\\%~:*?<>|\"]*"  # the name of one file in the header's folder
SKIPPED = rb"(?im)^byte ?skip:[ \t]*(\d+)"
IN_WORDS = rb"(?im)^[ \t]*(BinaryData[ \t]*[=:][ \t]*F|encoding:[ \t]*(?!raw)\S)"
PACKED = rb"(?im)^[ \t]*(CompressedData[ \t]*[=:][ \t]*(T|1)|encoding:[ \t]*gz(ip)?\b)"
NOWHERE = "its header states no directions; its voxels are taken as lying along the axes, 1 mm apart"


def read_scan(path: Path, reading: Reading) -> Scan:
    """A file's voxels and geometry.

    Raises:
        CaseError: damaged, too large, or with several numbers a voxel.
        RunError: SimpleITK is not installed.
    """
    name = case_name(path)
    check_file(path, name)
    header = _read_header(name, path)
    if not header.voxels.is_file():
        other = header.voxels.name
        raise CaseError(f"{name}: {path.name} has its voxels in {other}, which is not beside it; copy that, too")
    itk = _library()
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size = tuple(int(length) for length in reader.GetSize())
        if reader.GetNumberOfComponents() != 1 or not 2 <= len(size) <= 4:
            raise CaseError(f"{name}: must be 2D or 3D with one number a voxel, got size {size}")
        _check_volume(name, size, reading.volume)
        voxel = itk.Image([1] * len(size), reader.GetPixelIDValue()).GetSizeOfPixelComponent()
        check_scan_size(name, size, voxel)
        _refuse_damaged(name, header, math.prod(size) * voxel)
        image = reader.Execute()
    except RuntimeError as error:
        reason = in_one_line(RuntimeError(str(error).strip().rpartition("\n")[2]))  # its last line says most
        raise CaseError(f"{name}: {path.name} cannot be read ({reason}); write it again") from None
    if len(size) == 4:
        image = image[..., reading.volume or 0]
    array = itk.GetArrayFromImage(image)
    is_placed = not header.is_nrrd or re.search(rb"(?im)^(space directions|spacings)\s*:", header.text)
    notes = () if is_placed else (Note(NOWHERE), Note(UNSIZED))
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


def voxels_of(path: Path) -> Path:
    """The file that holds a file's voxels: itself, or one beside it, which may not be there.

    Raises:
        CaseError: none such, see `read_scan`.
        OSError: it cannot be read.
    """
    return _read_header(case_name(path), path).voxels


def _check_volume(name: str, size: tuple[int, ...], volume: int | None) -> None:
    count = size[3] if len(size) == 4 else 1
    if count > 1 and volume is None:
        raise CaseError(f"{name}: holds {count} volumes; choose one with --volume 0 to {count - 1}")
    if not 0 <= (volume or 0) < count:
        raise CaseError(f"{name}: holds {count} volumes, --volume {volume} is none of them; count from 0")


@dataclass(frozen=True)
class _Header:
    text: bytes
    is_nrrd: bool
    voxels: Path  # the file with the voxels
    begin: int  # of the voxels in it, bytes


def _read_header(name: str, path: Path) -> _Header:
    """What is stated before the voxels, or in a file of its own.

    Raises:
        CaseError: no header, or one whose voxels are not in one file of this folder: what lies elsewhere is no image.
    """
    is_nrrd = path.suffix.lower() in NRRD
    with path.open("rb") as file:
        start = file.read(MAX_HEADER + 1)
    found = re.match(HEADERS[is_nrrd], start)
    if found is None or found.end() > MAX_HEADER or re.search(CONTROL, found[0]):
        raise CaseError(f"{name}: {path.name} has no header that can be read; write it again")
    text, words = found[0], re.findall(WORDS[is_nrrd], found[0])
    named = [one.strip().decode(errors="replace") for one in re.findall(NAMING[is_nrrd], text)]
    if len(words) != len(named) or len(named) != (bool(words) if is_nrrd else 1):
        raise CaseError(f"{name}: {path.name} says in several ways where its voxels are; save it in one piece")
    if not named or (not is_nrrd and named[0].upper() == "LOCAL"):
        return _Header(text, is_nrrd, path, found.end())
    other = named[0].removeprefix("./")
    if not re.fullmatch(BESIDE, other) or ".." in other:
        raise CaseError(f"{name}: {path.name} has its voxels in other files ({other}); save it in one piece")
    return _Header(text, is_nrrd, path.with_name(other), 0)


def _refuse_damaged(name: str, header: _Header, nbytes: int) -> None:
    """Voxels that are fewer, or packed and not what was written: ITK reads on, and says it on stderr at most.

    Args: nbytes: of all voxels.
    """
    file_name = header.voxels.name
    if re.search(PACKED, header.text):
        skipped = re.search(SKIPPED, header.text)
        nbytes += int(skipped[1]) if skipped else 0
        with header.voxels.open("rb") as file:
            file.seek(header.begin)
            found = _unpacked_bytes(file, nbytes)
        if found != nbytes:
            raise CaseError(f"{name}: {file_name} is damaged, its voxels cannot be unpacked; copy or write it again")
    elif not re.search(IN_WORDS, header.text) and header.voxels.stat().st_size - header.begin < nbytes:
        raise CaseError(f"{name}: {file_name} is cut short; copy or write it again")


def _unpacked_bytes(file: IO[bytes], most: int) -> int:
    """How many bytes what is left of a file unpacks to, of one stream or several; -1: damaged, cut short or more."""
    count, rest = 0, b""
    while True:
        stream = zlib.decompressobj(wbits=ZLIB_OR_GZIP)
        try:
            while not stream.eof and count <= most and (chunk := stream.unconsumed_tail or rest or file.read(CHUNK)):
                rest = b""
                count += len(stream.decompress(chunk, CHUNK))
        except zlib.error:
            return -1
        if not stream.eof:  # or more was unpacked than there may be
            return -1
        rest = stream.unused_data or file.read(CHUNK)
        if not rest.startswith(GZIP):
            return count


def _library() -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise RunError("reading NRRD and MetaImage needs SimpleITK: pip install 'samedge[itk]'") from None
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK
