"""What can be chosen: once for the command line, `Segmenter` and `bench`; no NumPy, every command imports it."""

from typing import Literal, get_args

Backend = Literal["openvino", "onnxruntime"]
Precision = Literal["auto", "f32", "bf16", "int8"]
Method = Literal["auto", "tracked", "propagated", "baseline"]
Modality = Literal[
    "CT", "MR", "PET", "X-Ray", "US", "Mammography", "OCT", "Endoscopy", "Fundus", "Dermoscopy", "Microscopy"
]  # fmt: skip
BACKENDS, PRECISIONS, MODALITIES = get_args(Backend), get_args(Precision), get_args(Modality)
TRACKED: Literal["tracked"] = "tracked"
PROPAGATED: Literal["propagated"] = "propagated"
BASELINE: Literal["baseline"] = "baseline"
METHODS: dict[Method, str] = {  # how a case is segmented
    "auto": "what validated best for the model and the modality",
    TRACKED: "a 3D box is tracked through its slices by optical flow, beforehand",
    PROPAGATED: "the mask on one slice prompts the next",
    BASELINE: "the masks of the public LiteMedSAM program, its quirks included",
}
FIXED = "fixed"  # a method for tests: a 3D box as it is on every slice of its range
BOX_MARGIN_PX = 2.5  # of the image between each side of a box and its object, as expected: the challenge's are 0 to 5
BLOCK = 8  # boxes decoded at once
