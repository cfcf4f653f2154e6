"""A wheel of the samedge that is running, from its source tree or from where it is installed; no build tool needed.

The bytes depend on the files alone: sorted, dated 1980-01-01, with fixed modes.
"""

import base64
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path

from edge.errors import RunError

PACKAGES = ("edge", "train", "export")
ROOT = Path(__file__).parents[3]  # the source tree, or the folder that packages are installed into
VIEWER = "niivue.umd.js"  # of `samedge serve`'s page, which no image serves: 2.3 MB
LEFT_OUT = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")  # of the installation, not of the wheel
DATE = (1980, 1, 1, 0, 0, 0)
WHEEL_TEXT = "Wheel-Version: 1.0\nGenerator: samedge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel() -> tuple[str, bytes]:
    """Name and content of the wheel.

    Raises:
        RunError: samedge runs without being installed, so its metadata is missing.
    """
    try:
        distribution = metadata.distribution("samedge")
    except metadata.PackageNotFoundError:
        raise RunError("samedge is not installed here; pip install it (or: pip install --editable .)") from None
    stem = f"samedge-{distribution.version}"
    files = {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in _package_files()}
    for file in distribution.files or ():
        folder, *rest = file.parts
        if folder.endswith(".dist-info") and file.name not in LEFT_OUT:
            files["/".join([f"{stem}.dist-info", *rest])] = Path(str(file.locate())).read_bytes()
    files[f"{stem}.dist-info/WHEEL"] = WHEEL_TEXT.encode()
    record = "".join(f"{name},sha256={_digest(content)},{len(content)}\n" for name, content in sorted(files.items()))
    files[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    return f"{stem}-py3-none-any.whl", _zip(files)


def _package_files() -> list[Path]:
    """The packages' files without what Python compiled."""
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    kept = [path for path in found if "__pycache__" not in path.parts and path.name != VIEWER]
    return sorted(path for path in kept if not path.name.startswith("."))


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:  # stored: the engine unpacks it at once
        for name, content in sorted(files.items()):
            member = zipfile.ZipInfo(name, DATE)
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content)
    return buffer.getvalue()
