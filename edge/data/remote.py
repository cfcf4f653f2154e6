"""Cases and results in object stores, S3 or another that fsspec knows: fetched before reading, put up once whole.

`Path("s3://bucket/folder")` is the path of such an address, see `edge.data.names.is_remote`. What is read or written
lies in a temporary folder meanwhile. A store shows an object whole or not at all, so a result is there or is not. Keys
and endpoints are said as the store's own tools have them: AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ~/.aws and so on.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from edge.data.names import BOX_FILES, ITK, address_of, case_name, ending_of, is_folder, is_remote
from edge.errors import CaseError, RunError, in_one_line

DENIED = re.compile("access ?denied|forbidden|403", re.IGNORECASE)  # not: expired, wrong signature, wrong time


def absolute(path: Path) -> Path:
    """The path as another process finds it."""
    return path if is_remote(path) else path.absolute()


def list_objects(folder: Path) -> list[Path]:
    """All that a store holds below a folder, in name order; of an object, that; of a folder without any, nothing.

    Raises:
        CaseError: no such bucket, no credentials, no network.
        RunError: fsspec, or what it needs for this store, is not installed.
    """
    with _store(folder) as (store, key):
        names = [name for name in store.find(key) if not name.endswith("/")]  # as S3's console marks folders
        return sorted(folder / name[len(key) :].strip("/") for name in names)


def bytes_of(path: Path, start: int = 0, end: int | None = None) -> bytes:
    """Of an object, those from `start` to `end`, that one excluded; None: to its own.

    Raises:
        CaseError, RunError: see `list_objects`; it is not there.
    """
    with _store(path) as (store, key):
        return bytes(store.cat_file(key, start=start, end=end))


def size_of(path: Path) -> int:
    """Bytes of a file, or of an object.

    Raises:
        CaseError, RunError: see `list_objects`; it is not there.
        OSError: no such file.
    """
    if not is_remote(path):
        return path.stat().st_size
    with _store(path) as (store, key):
        return int(store.size(key))


def _lent_folder() -> AbstractContextManager[str]:
    """A folder on the disk, for as long as a file is needed there."""
    from tempfile import TemporaryDirectory  # 5 ms that cases on a disk do not need

    return TemporaryDirectory(prefix="samedge-")


@contextmanager
def on_disk(path: Path, beside: Sequence[str] = BOX_FILES) -> Iterator[Path]:
    """A path to a case on a disk: itself, or for as long as this lasts what was fetched from a store.

    Args: beside: ends of names, after the case's, of what to fetch with it where it is there.

    Raises:
        CaseError, RunError: see `list_objects`; it is not there.
    """
    if not is_remote(path):
        yield path
        return
    with _lent_folder() as folder:
        local = Path(folder) / path.parent.name / path.name
        local.parent.mkdir()
        files = {path: local}
        if is_folder(path):
            local.mkdir()
            files = {one: local / one.name for one in list_objects(path) if one.parent == path}
        for one, to in files.items():
            with _store(one) as (store, key):
                store.get_file(key, str(to))
        if local.is_file():
            _refuse_slice(path, local)
        for ending in beside:
            _fetched(path.with_name(case_name(path)), ending, local.with_name(case_name(path)), optional=True)
        if ending_of(path) in ITK and (voxels := _voxels_of(local)) != local:
            _fetched(path.with_name(voxels.name), "", voxels)
        yield local


def _voxels_of(local: Path) -> Path:
    from edge.data.formats.itk import voxels_of

    with suppress(CaseError):  # which reading says
        return voxels_of(local)
    return local


@contextmanager
def first_on_disk(stem: Path, endings: Sequence[str], beside: Sequence[str] = ()) -> Iterator[Path]:
    """Likewise of a path without its ending: the first of `endings` is fetched that is there.

    Raises:
        CaseError, RunError: see `list_objects`; none is there.
    """
    if not is_remote(stem):
        yield stem
        return
    with _lent_folder() as folder:
        local = Path(folder) / stem.name
        if not any(_fetched(stem, ending, local) for ending in endings):
            raise CaseError(f"{stem.name}: {address_of(stem)}{endings[0]} does not exist")
        for ending in beside:
            _fetched(stem, ending, local, optional=True)
        yield local


@contextmanager
def results_on_disk(folder: Path, last: Collection[str] = ()) -> Iterator[Path]:
    """A folder to write results to: itself, or one whose files are put up to a store when this ends well.

    Args: last: files that are put up after all others.

    Raises:
        CaseError, RunError: see `list_objects`.
    """
    if not is_remote(folder):
        yield folder
        return
    with _lent_folder() as local:
        yield Path(local)
        for file in sorted(Path(local).iterdir(), key=lambda file: (file.name in last, file.name)):
            with _store(folder / file.name) as (store, key):
                store.put_file(str(file), key)


def _refuse_slice(path: Path, local: Path) -> None:
    """Raises CaseError: a slice of a DICOM series, of which a store shows one object alone."""
    from edge.data.formats.dicom_series import is_dicom, read_header

    if not is_dicom(local) or (header := read_header(local)).position is None or header.frames > 1:
        return
    if any(is_dicom(other) for other in list_objects(path.parent) if other.parent == path.parent and other != path):
        raise CaseError(f"{case_name(path)}: {address_of(path)} is a slice of a series; give the series' folder")


def _fetched(stem: Path, ending: str, local: Path, *, optional: bool = False) -> bool:
    """Whether it is there. Of what is `optional`, a key that may not list is told only that access is denied."""
    with _store(Path(f"{stem}{ending}")) as (store, key):
        try:
            store.get_file(key, f"{local}{ending}")
        except FileNotFoundError:
            return False
        except PermissionError as error:
            if optional and DENIED.search(str(error)):
                return False
            raise
    return True


@contextmanager
def _store(path: Path) -> Iterator[tuple[Any, str]]:
    """The file system of an address and what it calls the path; errors of whatever kind of store become ours."""
    address = address_of(path)
    where = address if is_folder(path) else f"{case_name(path)}: {address}"
    try:
        import fsspec

        yield fsspec.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        told = in_one_line(error)
        raise RunError(f"{address}: {told}; pip install 'samedge[remote]' for S3, here and on the workers") from None
    except FileNotFoundError as error:
        raise CaseError(f"{where} does not exist ({in_one_line(error)}); check the address") from None
    except Exception as error:
        told = in_one_line(error)
        raise CaseError(f"{where} cannot be used ({told}); check address, credentials and network") from None
