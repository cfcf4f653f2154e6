"""samedge's runtime: box prompts to masks on a CPU.

case -> preprocess -> encode -> decode -> restore -> merge -> save | score
"""

from edge.case import MODALITIES, Case, find_cases, make_case, modality_of, read_case, write_case
from edge.errors import CaseError, ModelError, RunError, SamedgeError
from edge.pipeline import Options, Segmentation, segment
from edge.runtime import load_engine
from edge.segmenter import Segmenter

__all__ = [
    "MODALITIES",
    "Case",
    "CaseError",
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
