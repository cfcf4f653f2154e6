"""Does the exported model answer what the network answered? Engines against torch, number by number."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from edge.errors import ModelError
from edge.runtime import BACKENDS, Engine, load_engine
from export.graphs import example_inputs
from train.networks.litemedsam import LiteMedSAM


@dataclass(frozen=True)
class Bounds:
    """What an export may differ from torch by."""

    relative_error: float  # largest difference over largest value, of embedding and of logits
    equal_pixels: float = 0.999  # share of mask pixels


@dataclass(frozen=True)
class Parity:
    """One backend against torch f32, on the same inputs."""

    backend: str
    embedding_error: float  # largest absolute difference
    embedding_scale: float  # largest absolute value
    logits_error: float
    logits_scale: float
    equal_pixels: float  # share, 0 to 1

    def within(self, bounds: Bounds) -> bool:
        """Whether every number is inside the bounds."""
        return (
            self.embedding_error <= bounds.relative_error * self.embedding_scale
            and self.logits_error <= bounds.relative_error * self.logits_scale
            and self.equal_pixels >= bounds.equal_pixels
        )


def measure_parity(network: LiteMedSAM, folder: Path) -> list[Parity]:
    """Each backend's engine on the folder, compared with the network.

    The decoder is fed the network's embedding, so that each graph answers for itself.
    """
    images, boxes = example_inputs()
    with torch.no_grad():
        embeddings = network.image_encoder(images)
        logits = network.decode(embeddings[:1], boxes, torch.zeros(len(boxes), dtype=torch.long))[0].numpy()
    reference = embeddings.numpy()
    return [
        compare(load_engine(folder, backend=backend), images.numpy(), boxes.numpy(), reference, logits)
        for backend in BACKENDS
    ]


def check_parity(rows: list[Parity], bounds: Bounds) -> None:
    """Raise where a backend is out of bounds.

    Raises:
        ModelError: names the backend and its numbers.
    """
    for row in rows:
        if not row.within(bounds):
            raise ModelError(
                f"{row.backend} differs from torch: "
                f"embedding by {row.embedding_error:.2g} of {row.embedding_scale:.2g}, "
                f"logits by {row.logits_error:.2g} of {row.logits_scale:.2g}, {row.equal_pixels:.4%} of pixels equal; "
                f"allowed are {bounds.relative_error:g} of the largest value and {bounds.equal_pixels:.2%}"
            )


def compare(
    engine: Engine,
    images: npt.NDArray[np.float32],
    boxes: npt.NDArray[np.float32],
    embeddings: npt.NDArray[np.float32],
    logits: npt.NDArray[np.float32],
) -> Parity:
    """An engine's own answers beside torch's; the decoder is fed torch's embedding."""
    own_embeddings = engine.encode(images)
    own_logits = engine.decode(embeddings[:1], boxes)
    return Parity(
        backend=engine.backend,
        embedding_error=float(np.abs(own_embeddings - embeddings).max()),
        embedding_scale=float(np.abs(embeddings).max()),
        logits_error=float(np.abs(own_logits - logits).max()),
        logits_scale=float(np.abs(logits).max()),
        equal_pixels=float(np.mean((own_logits > 0) == (logits > 0))),
    )
