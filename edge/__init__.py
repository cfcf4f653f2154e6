"""samedge's runtime: box prompts to masks on a CPU.

data -> prompts -> views -> engines (encode, decode) -> masks (restore, merge) -> data | scoring

What is public here is imported when it is first asked for, so that a command begins at once.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.choices import MODALITIES
    from edge.data.case import Case, find_cases, make_case, read_case, write_case
    from edge.data.modality import modality_of
    from edge.engines.runtime import load_engine
    from edge.errors import CaseError, CaseWarning, ModelError, RunError, SamedgeError
    from edge.pipeline import Options, Segmentation, segment
    from edge.segmenter import Segmenter

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime sends events by default since 1.29

__all__ = [
    "MODALITIES",
    "Case",
    "CaseError",
    "CaseWarning",
    "ModelError",
    "Options",
    "RunError",
    "SamedgeError",
    "Segmentation",
    "Segmenter",
    "find_cases",
    "load_engine",
    "make_case",
    "modality_of",
    "read_case",
    "segment",
    "write_case",
]

_HOMES = {
    "choices": ("MODALITIES",),
    "data.case": ("Case", "find_cases", "make_case", "read_case", "write_case"),
    "data.modality": ("modality_of",),
    "errors": ("CaseError", "CaseWarning", "ModelError", "RunError", "SamedgeError"),
    "pipeline": ("Options", "Segmentation", "segment"),
    "engines.runtime": ("load_engine",),
    "segmenter": ("Segmenter",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"edge.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
