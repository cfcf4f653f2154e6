"""What a model folder is made with."""

from dataclasses import dataclass
from pathlib import Path

from edge.views.ladder import ViewLadder
from export.checks.parity import Bounds
from export.int8.add import Int8Options


@dataclass(frozen=True)
class ExportOptions:
    """How a checkpoint is exported, and what its description says of it."""

    name: str | None = None  # None: the checkpoint's file name
    weights: str = "f32"  # as stored: f16 halves the files and rounds the weights; computing stays float32
    licence: str = ""
    training_data: str = ""
    bounds: Bounds | None = None  # None: those of `export.model_files.model.BOUNDS` for `weights`
    adapter: Path | None = None  # a LoRA adapter's folder, merged into the checkpoint
    adapter_scale: float = 1.0  # of the adapter: 0 is the checkpoint, 1 what was trained
    views: ViewLadder | None = None  # those the network was trained on, to be given them; None: whole frames
    walks: bool = False  # whether it was trained on walks through volumes, on `views`
    int8: Int8Options | None = None  # None: no INT8 graphs
    methods_on: Path | None = None  # labelled volumes to choose each modality's method on; None: all are tracked
    io: str = "samedge"  # or of `export.model_files.sam_signature.POINT_FRAMES_PX`: two ONNX files with SAM's own ports

    @property
    def half(self) -> bool:
        """Whether weights are stored as float16."""
        return self.weights == "f16"

    def name_for(self, checkpoint: Path) -> str:
        """What the exported model is called."""
        return self.name or checkpoint.stem
