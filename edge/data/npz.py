"""Reading and writing `.npz` archives as data, never as code.

`np.load` is not used: it trusts the sizes an archive declares. Here every array's header is read first, its size is
bounded, and no more bytes are unpacked than the header announces. Object arrays (pickles) are refused, but for records
of numbers, which are read as data (`edge.data.pickled`).
"""

import ast
import lzma
import struct
import zipfile
import zlib
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from edge.data.files import whole_file
from edge.errors import CaseError

MAX_ARRAY_BYTES = 4 * 2**30  # the largest public case unpacks to 0.6 GiB (287 x 512 x 512 as int64)
MAX_HEADER_BYTES = 4096
UNREADABLE = (  # what zipfile raises for damaged, encrypted or exotic archives
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, struct.error,
)  # fmt: skip
COMPRESSION_LEVEL = 1  # label maps: within 20 % of level 6 in size, several times faster


def read_npz(
    path: Path, keys: Iterable[str], *, max_bytes: int | None = None, records: Container[str] = ()
) -> dict[str, npt.NDArray]:
    """The arrays of `keys` that the archive holds; absent keys are left out.

    Args:
        max_bytes: that an array may unpack to; None: MAX_ARRAY_BYTES.
        records: keys whose arrays may be structured, or hold dicts of numbers; the others are plain.

    Raises:
        CaseError: not a readable zip archive, an object array, or an array that unpacks to more than `max_bytes`.
    """
    name = path.stem
    try:
        if path.exists() and not path.is_file():  # opening a named pipe would wait for ever
            raise CaseError(f"{name}: {path} is a folder or a device, expected an .npz file")
        with zipfile.ZipFile(path) as archive:
            members = {Path(file).stem: file for file in archive.namelist() if file.endswith(".npy")}
            arrays = {}
            for key in keys:
                if key in members:
                    with archive.open(members[key]) as stream:
                        where = f"{name}: {key}"
                        array = _read_array(stream, where, max_bytes or MAX_ARRAY_BYTES, takes_records=key in records)
                    if array.dtype.names and key not in records:
                        raise CaseError(f"{name}: {key} must be a plain numeric array, got {array.dtype}")
                    arrays[key] = array
            return arrays
    except PermissionError:
        raise CaseError(f"{name}: {path} cannot be read (permission denied)") from None
    except FileNotFoundError:
        raise CaseError(f"{name}: {path} does not exist") from None
    except UNREADABLE as error:
        raise CaseError(f"{name}: not a readable .npz archive ({error}); write it again with np.savez") from None
    except OSError as error:
        raise CaseError(f"{name}: {path} cannot be read ({error.strerror or error})") from None


def _read_array(stream: IO[bytes], where: str, max_bytes: int, *, takes_records: bool) -> npt.NDArray:
    shape, fortran, dtype = _read_header(stream, where)
    if dtype.hasobject:
        if not takes_records:
            raise CaseError(f"{where} holds Python objects (pickled), which are never loaded; save a plain array")
        return _read_records(stream, where)
    if dtype.subdtype is not None or dtype.itemsize == 0:
        raise CaseError(f"{where} must be a plain numeric array, got {dtype}")
    count = 1
    for length in shape:
        count *= length
    size = count * dtype.itemsize
    if size > max_bytes:
        raise CaseError(f"{where} declares {size / 2**30:.1f} GiB, the limit is {max_bytes / 2**30:.3g} GiB")
    buffer = _read_exactly(stream, size, where)
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _read_records(stream: IO[bytes], where: str) -> npt.NDArray:
    """The items of an object array, (N,)."""
    from edge.data.pickled import MAX_BYTES, NotPlain, read_pickled_array  # 0.01 s that other files do not need

    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise CaseError(f"{where} holds more than {MAX_BYTES // 2**10} KiB of Python objects; save a plain array")
    try:
        items = read_pickled_array(content)
    except NotPlain as error:
        raise CaseError(
            f"{where} holds Python objects (pickled), not plain records: {error}; save a plain array"
        ) from None
    array = np.empty(len(items), object)
    array[:] = items
    return array


def _read_header(stream: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    magic = stream.read(8)
    if magic[:6] != b"\x93NUMPY" or len(magic) < 8 or magic[6] not in (1, 2, 3):
        raise CaseError(f"{where} is not a NumPy array")
    length_format = "<H" if magic[6] == 1 else "<I"
    (length,) = struct.unpack(length_format, stream.read(struct.calcsize(length_format)))
    if length > MAX_HEADER_BYTES:
        raise CaseError(f"{where} has a header of {length} bytes, expected less than {MAX_HEADER_BYTES}")
    try:
        header = ast.literal_eval(stream.read(length).decode("latin1"))
        shape, dtype = tuple(int(n) for n in header["shape"]), np.dtype(header["descr"])
        np.broadcast_to(np.zeros((), dtype), shape)  # takes no memory; refuses lengths that no array can have
        return shape, bool(header["fortran_order"]), dtype
    except (ValueError, OverflowError, SyntaxError, KeyError, TypeError, MemoryError, RecursionError):
        raise CaseError(f"{where} has a damaged array header; write the file again with np.savez") from None


def _read_exactly(stream: IO[bytes], size: int, where: str) -> bytearray:
    buffer = bytearray()  # grows with what really comes, so a lying header cannot claim memory
    while len(buffer) < size:
        chunk = stream.read(min(size - len(buffer), 2**24))
        if not chunk:
            raise CaseError(f"{where} is cut short: {len(buffer)} of {size} bytes")
        buffer += chunk
    return buffer


def write_npz(path: Path, arrays: Mapping[str, npt.NDArray]) -> None:
    """Write a compressed archive that `np.load` opens: whole under its final name, or not at all.

    The bytes depend on the arrays alone (no time stamps).

    Raises:
        RunError: the folder cannot be written or the disk is full.
    """
    with (
        whole_file(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=COMPRESSION_LEVEL) as archive,
    ):
        for key, array in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:  # dated 1980-01-01
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
