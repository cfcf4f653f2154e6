"""Does the exported model answer what the network answered? Engines against torch, number by number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from edge.engines.model_folder import read_description
from edge.engines.runtime import Engine
from edge.errors import ModelError
from export.graphs.litemedsam import example_inputs, example_views
from export.int8.drop import mean_dsc
from train.networks.litemedsam import LiteMedSAM
from train.validation import TorchEngine

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Bounds:
    """What an export may differ from torch by."""

    relative_error: float  # largest difference over largest value, of embedding and of logits
    equal_pixels: float = 0.999  # share of mask pixels


@dataclass(frozen=True)
class Parity:
    """One engine against torch f32, on the same inputs."""

    engine: str  # backend and precision
    embedding_error: float  # largest absolute difference
    embedding_scale: float  # largest absolute value
    logits_error: float
    logits_scale: float
    equal_pixels: float  # share, 0 to 1
    size_mib: float = 0.0  # of the files it is loaded from
    dsc_drop: float | None = None  # points of 100 that it loses to torch f32, mean over modalities; None: not measured

    def within(self, bounds: Bounds) -> bool:
        """Whether every number is inside the bounds."""
        return (
            self.embedding_error <= bounds.relative_error * self.embedding_scale
            and self.logits_error <= bounds.relative_error * self.logits_scale
            and self.equal_pixels >= bounds.equal_pixels
        )


def measure_parity(network: LiteMedSAM, folder: Path, engines: Mapping[str, Engine]) -> list[Parity]:
    """Each engine of a model folder (see `export.checks.speed.available_engines`), compared with the network.

    The decoder is fed the network's embedding, so that each graph answers for itself. Of a model that is given views,
    each number is the one farthest out of frames and views of every size.
    """
    ladder = read_description(folder).ladder
    sets = [_answers(network, *example_inputs(), views=False)]
    sets += [_answers(network, *example_views(size), views=True) for size in (ladder.sizes if ladder else ())]
    return [
        replace(_worst([compare(title, engine, *arrays) for arrays in sets]), size_mib=_size_mib(folder, title))
        for title, engine in engines.items()
    ]


def _worst(rows: list[Parity]) -> Parity:
    """One row of several of the same engine: of each number the one farthest out."""
    embedding = max(rows, key=lambda row: row.embedding_error / row.embedding_scale)
    logits = max(rows, key=lambda row: row.logits_error / row.logits_scale)
    return replace(
        embedding,
        logits_error=logits.logits_error,
        logits_scale=logits.logits_scale,
        equal_pixels=min(row.equal_pixels for row in rows),
    )


def _answers(network: LiteMedSAM, images: torch.Tensor, boxes: torch.Tensor, *, views: bool) -> tuple[Array, ...]:
    """Images, boxes, the network's embeddings of all and its logits: of all boxes on the first, or each on its own."""
    with torch.no_grad():
        embeddings = network.image_encoder(images)
        on_first = embeddings[:1].expand(len(boxes), -1, -1, -1)
        logits = network.decode_views(embeddings if views else on_first, boxes).numpy()
    return images.numpy(), boxes.numpy(), embeddings.numpy(), logits


def with_dsc(
    rows: list[Parity], network: LiteMedSAM, engines: Mapping[str, Engine], sources: Sequence[Path]
) -> list[Parity]:
    """The rows with what their engines lose in DSC to the network, on a slice of each of the labelled cases."""
    ladder = next(iter(engines.values())).description.ladder
    torch_dsc, *own = mean_dsc([TorchEngine(network, ladder), *(engines[row.engine] for row in rows)], sources)
    return [replace(row, dsc_drop=100 * (torch_dsc - dsc)) for row, dsc in zip(rows, own, strict=True)]


def check_parity(rows: list[Parity], bounds: Bounds) -> None:
    """Raise where an engine in f32 is out of bounds; those of lower precision are only reported.

    Raises:
        ModelError: names the engine and its numbers.
    """
    for row in rows:
        if row.engine.endswith("f32") and not row.within(bounds):
            raise ModelError(
                f"{row.engine} differs from torch: "
                f"embedding by {row.embedding_error:.2g} of {row.embedding_scale:.2g}, "
                f"logits by {row.logits_error:.2g} of {row.logits_scale:.2g}, {row.equal_pixels:.4%} of pixels equal; "
                f"allowed are {bounds.relative_error:g} of the largest value and {bounds.equal_pixels:.2%}"
            )


def compare(
    title: str,
    engine: Engine,
    images: Array,
    boxes: Array,
    embeddings: Array,
    logits: Array,
) -> Parity:
    """An engine's own answers beside torch's: boxes on the first image, or each on its own where there are as many.

    The decoder is fed torch's embedding.
    """
    own_embeddings = engine.encode(images)
    own_logits = engine.decode(embeddings if len(embeddings) == len(boxes) else embeddings[:1], boxes)
    return Parity(
        engine=title,
        embedding_error=float(np.abs(own_embeddings - embeddings).max()),
        embedding_scale=float(np.abs(embeddings).max()),
        logits_error=float(np.abs(own_logits - logits).max()),
        logits_scale=float(np.abs(logits).max()),
        equal_pixels=float(np.mean((own_logits > 0) == (logits > 0))),
    )


def _size_mib(folder: Path, title: str) -> float:
    backend, precision = title.split()
    description = read_description(folder)
    graphs = {**description.graphs[backend], **(description.int8_graphs[backend] if precision == "int8" else {})}
    return sum((folder / file).stat().st_size for file in {file for files in graphs.values() for file in files}) / 2**20
