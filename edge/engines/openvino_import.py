"""`import openvino` without what a runtime has no use for, and the one core of a process.

Left out are the model converter and the operators to build graphs of. The converter costs 0.05 s at import and as much
at exit, starts a process, and has the import reported to OpenVINO's makers where the user once agreed to that;
`predict` never uses the network. The operators are 45 modules, half of what is left of the import.
"""

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import RLock
from types import ModuleType
from typing import Any

CONVERTER = "openvino.tools.ovc"
OPERATORS = ["openvino.op", *(f"openvino.opset{number}" for number in range(1, 100))]  # 17 in 2026.4

_one_at_a_time = RLock()


def import_openvino() -> Any:
    """The module `openvino`; `convert_model` and the opsets come when somebody asks for them.

    Raises:
        ImportError: not installed.
    """
    with _one_at_a_time:
        if "openvino" in sys.modules:
            return importlib.import_module("openvino")
        with _left_out():
            openvino = importlib.import_module("openvino")
        for name in OPERATORS:
            vars(openvino).pop(name.rpartition(".")[2], None)
        openvino.__getattr__ = _later  # type: ignore[method-assign]
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


@contextmanager
def _left_out() -> Iterator[None]:
    """An import of the converter fails, which openvino provides for; operators are empty modules."""
    sys.modules[CONVERTER] = None  # type: ignore[assignment]
    sys.modules.update({name: ModuleType(name) for name in OPERATORS})
    try:
        yield
    finally:
        for name in (CONVERTER, *OPERATORS):
            sys.modules.pop(name, None)


def _later(name: str) -> Any:
    if name == "convert_model":
        return importlib.import_module(CONVERTER).convert_model
    if re.fullmatch(r"op|opset\d+", name):
        return importlib.import_module(f"openvino.{name}")
    raise AttributeError(f"module 'openvino' has no attribute {name!r}")
