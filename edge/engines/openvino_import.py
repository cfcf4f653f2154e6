"""`import openvino` without its model converter, which a runtime has no use for, and the one core of a process.

The converter costs 0.05 s at import and as much at exit. It and NNCF start processes that report their use to Google
Analytics, unless the user once refused that: their imports of what does so fail, which both provide for.
"""

import importlib
import sys
from functools import cache
from threading import RLock
from typing import Any

CONVERTER = "openvino.tools.ovc"
TELEMETRY = "openvino_telemetry"

_one_at_a_time = RLock()


def import_openvino() -> Any:
    """The module `openvino`; its `convert_model` comes when somebody asks for it.

    Raises:
        ImportError: not installed.
    """
    with _one_at_a_time:
        if "openvino" in sys.modules:
            return importlib.import_module("openvino")
        sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]  # for as long as the process lives
        sys.modules[CONVERTER] = None  # type: ignore[assignment]  # an import of it fails, which openvino provides for
        try:
            openvino = importlib.import_module("openvino")
        finally:
            del sys.modules[CONVERTER]
        openvino.__getattr__ = _converter  # type: ignore[method-assign]
        return openvino


def openvino_core() -> Any:
    """The process's `openvino.Core`, which is never freed: use it for every graph.

    A core gives its thread a stack for signal handlers and takes it away when it is freed. Of two that are freed in the
    order they were made the second puts the first's back, which is gone (OpenVINO 2026.4.1): the next signal that
    Python handles, such as Ctrl-C or the end of one of torch's workers, would be a segmentation fault.

    Raises:
        ImportError: not installed.
    """
    with _one_at_a_time:
        return _core()


@cache
def _core() -> Any:
    return import_openvino().Core()


def _converter(name: str) -> Any:
    if name == "convert_model":
        return importlib.import_module(CONVERTER).convert_model
    raise AttributeError(f"module 'openvino' has no attribute {name!r}")
