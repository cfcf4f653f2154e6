"""A checkpoint to the two ONNX files that tools written for SAM load, and `sam.json`, which says what they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge.data.files import file_hash
from export.checks.parity import Parity
from export.graphs.sam_signature import DECODER_PORTS, example, frame, write_signature
from export.model_files.options import ExportOptions
from train.networks.litemedsam import FRAME_PX, LiteMedSAM

DESCRIPTION = "sam.json"
POINT_FRAMES_PX = {"sam": FRAME_PX, "sam-1024": 1024}  # --io -> side of the frame that points are given in


def fill_signature(
    folder: Path,
    network: LiteMedSAM,
    checkpoint: Path,
    options: ExportOptions,
    made_from: dict[str, Any],
    progress: Callable[[str], None],
) -> list[Parity]:
    """Write graphs and description into an empty folder; returns ONNX Runtime's parity with torch.

    Args:
        options: whose `io` is one of POINT_FRAMES_PX.
        made_from: to state in the description.
    """
    point_frame_px = POINT_FRAMES_PX[options.io]
    stated = {
        "name": options.name_for(checkpoint), "licence": options.licence, "training_data": options.training_data
    }  # fmt: skip
    facts = {**stated, "point_frame_px": str(point_frame_px)}
    progress("ONNX graphs")
    paths = write_signature(network, folder, point_frame_px=point_frame_px, half_weights=options.half, facts=facts)
    progress("parity with torch")
    parity = _parity(network, paths, point_frame_px)
    description = {
        **stated,
        "io": options.io,
        "point_frame_px": point_frame_px,
        "image": "H, W, 3; red, green, blue; 0 to 255; any size, as it is",
        "weights": options.weights,
        "sha256": {path.name: file_hash(path) for path in paths.values()},
        "made_from": made_from,
        "parity": vars(parity),
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return [parity]


def _parity(network: LiteMedSAM, paths: dict[str, Path], point_frame_px: int) -> Parity:
    """The files in ONNX Runtime beside the network, on a box; the decoder is fed torch's embedding."""
    import onnxruntime

    encoder, decoder = (onnxruntime.InferenceSession(paths[stage]) for stage in ("encoder", "decoder"))
    image, points, labels, *rest = example(point_frame_px)
    box = points[:, :2]
    with torch.no_grad():
        embedding = network.image_encoder(frame(image)[None])
        logits = network.decode_views(embedding, box.reshape(1, 4) * (FRAME_PX / point_frame_px)).numpy()
    embedding = embedding.numpy()
    (own_embedding,) = encoder.run(None, {"input_image": image.numpy()})
    prompts = [embedding, box.numpy(), labels[:, :2].numpy(), *(tensor.numpy() for tensor in rest)]
    own_logits = decoder.run(["low_res_masks"], dict(zip(DECODER_PORTS[0], prompts, strict=True)))[0][0]
    return Parity(
        engine="onnxruntime f32",
        embedding_error=float(np.abs(own_embedding - embedding).max()),
        embedding_scale=float(np.abs(embedding).max()),
        logits_error=float(np.abs(own_logits - logits).max()),
        logits_scale=float(np.abs(logits).max()),
        equal_pixels=float(np.mean((own_logits > 0) == (logits > 0))),
        size_mib=sum(path.stat().st_size for path in paths.values()) / 2**20,
    )
