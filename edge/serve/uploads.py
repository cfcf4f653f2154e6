"""Files that a user opens on the page, kept in a folder of their own until the lease ends."""

import shutil
import weakref
import zipfile
from pathlib import Path
from tempfile import mkdtemp

from edge.data.formats.finding import find_inputs
from edge.data.formats.registry import KINDS
from edge.data.npz import UNREADABLE
from edge.errors import CaseError
from edge.memory import MIB

MAX_FILES = 20_000
MAX_NAME_BYTES = 200
CHUNK_BYTES = 2**20


class Uploads:
    """What one client has sent, up to a number of bytes."""

    def __init__(self, most_mib: int) -> None:
        self._folder = Path(mkdtemp(prefix="samedge-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)  # it goes when this does
        self._most, self._left, self._count = most_mib * MIB, most_mib * MIB, 0

    def cases(self) -> list[Path]:
        """The images among the files.

        Raises:
            CaseError: there is none.
        """
        try:
            return find_inputs(self._folder)
        except CaseError:
            name, *others = sorted(path.name for path in self._folder.iterdir()) or ["nothing"]
            more = f" and {len(others)} more" if others else ""
            raise CaseError(f"{name}{more}: no image to open; take {KINDS}") from None

    def add(self, name: str, content: bytes) -> None:
        """A file, or what is in a zip.

        Raises:
            CaseError: a damaged zip; more than may be kept.
        """
        if not name.lower().endswith(".zip"):
            self._take(len(content))
            self._place(name).write_bytes(content)
            return
        packed = self._place("packed.zip")
        packed.write_bytes(content)
        try:
            with zipfile.ZipFile(packed) as archive:
                for member in archive.infolist():
                    if not member.is_dir() and not Path(member.filename).name.startswith("."):
                        self._unpack(archive, member)
        except (*UNREADABLE, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of what is packed
                raise
            raise CaseError(f"{name}: is a damaged or encrypted zip; pack it again") from None
        finally:
            packed.unlink()

    def _unpack(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
        with archive.open(member) as stream, self._place(member.filename).open("wb") as file:
            while chunk := stream.read(CHUNK_BYTES):  # counted as it comes: headers may lie
                self._take(len(chunk))
                file.write(chunk)

    def _take(self, nbytes: int) -> None:
        self._left -= nbytes
        if self._left < 0:
            raise CaseError(f"more than {self._most // MIB} MiB were opened; load the page again, or open less")

    def _place(self, name: str) -> Path:
        """Where a file goes: by its last name alone, and beside one of the same name."""
        self._count += 1
        if self._count > MAX_FILES:
            raise CaseError(f"more than {MAX_FILES} files were opened; load the page again, or open less")
        plain = Path(name.replace("\\", "/")).name.lstrip(".").replace("\0", "")
        plain = plain.encode(errors="replace")[-MAX_NAME_BYTES:].decode(errors="ignore") or "file"
        place = self._folder / plain
        return place if not place.exists() else place.with_name(f"{self._count}_{plain}")
