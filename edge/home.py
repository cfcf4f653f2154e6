"""Where samedge keeps what it can make or fetch again."""

import os
from pathlib import Path


def home() -> Path:
    """The cache folder: SAMEDGE_HOME, or `samedge` in the user's cache."""
    if folder := os.environ.get("SAMEDGE_HOME"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "samedge"


def engine_cache() -> Path | None:
    """Folder for compiled models, or None where nothing can be written (a read-only container)."""
    folder = home() / "openvino"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
