"""Where samedge keeps what it can make or fetch again."""

import os
from pathlib import Path


def home() -> Path:
    """The cache folder: SAMEDGE_HOME, or `samedge` in the user's cache."""
    if folder := os.environ.get("SAMEDGE_HOME"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "samedge"


def engine_cache() -> Path:
    """Folder of `edge.engine_cache`; it may be missing or not be writable, which only costs time."""
    return home() / "openvino"
