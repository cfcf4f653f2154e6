"""`import openvino` without its model converter, which a runtime has no use for.

The converter costs 0.05 s at import and as much at exit, starts a process, and has the import reported to OpenVINO's
makers where the user once agreed to that; `predict` never uses the network.
"""

import importlib
import sys
from threading import Lock
from typing import Any

CONVERTER = "openvino.tools.ovc"

_importing = Lock()


def import_openvino() -> Any:
    """The module `openvino`; its `convert_model` comes when somebody asks for it.

    Raises:
        ImportError: not installed.
    """
    with _importing:
        if "openvino" in sys.modules:
            return importlib.import_module("openvino")
        sys.modules[CONVERTER] = None  # type: ignore[assignment]  # an import of it fails, which openvino provides for
        try:
            openvino = importlib.import_module("openvino")
        finally:
            del sys.modules[CONVERTER]
        openvino.__getattr__ = _converter  # type: ignore[method-assign]
        return openvino


def _converter(name: str) -> Any:
    if name == "convert_model":
        return importlib.import_module(CONVERTER).convert_model
    raise AttributeError(f"module 'openvino' has no attribute {name!r}")
