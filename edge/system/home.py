"""Where samedge keeps what it can make or fetch again."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import RunError

if TYPE_CHECKING:
    from tempfile import TemporaryDirectory


def home() -> Path:
    """The cache folder: SAMEDGE_HOME, or `samedge` in the user's cache.

    Raises:
        RunError: neither is known, as for a user id without an account where HOME is not set (cron, containers).
    """
    given = os.environ.get("SAMEDGE_HOME")
    try:
        if given:
            return Path(given).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "samedge"
    except RuntimeError:  # pathlib's for a home that cannot be found
        raise RunError("this user has no home folder to keep files in; set SAMEDGE_HOME to a folder") from None


def engine_cache() -> Path | None:
    """Folder of `edge.engines.graph_cache`; None: no home. Missing or not writable, it only costs time."""
    try:
        return home() / "openvino"
    except RunError:
        return None


@cache
def lend_home() -> "TemporaryDirectory[str] | None":
    """Give libraries that fail without them a user's name and a home, until this process ends; None: there are both.

    MONAI and torch's compiler ask for the name when they are imported, OpenVINO's converter and NNCF for the home.
    """
    import getpass  # imported here: a prediction, which is over in a second, needs neither
    from tempfile import TemporaryDirectory

    with suppress(KeyError, OSError, RuntimeError):
        getpass.getuser()
        Path.home()
        return None
    lent = TemporaryDirectory(prefix="samedge-home-", ignore_cleanup_errors=True)
    os.environ.setdefault("HOME", lent.name)
    os.environ.setdefault("USER", str(os.getuid()))
    return lent
