"""What both engines have in common: graphs by size, loaded when they are first needed, and checked."""

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.engines.graph import Array, Graph, StaysInItsProcess, Within, decode_boxes, refuse_forked_process
from edge.engines.model_folder import STAGES, ModelDescription, Stamps, check_unchanged
from edge.errors import ModelError, RunError
from edge.system.cores import available_cores

PORTS = {"encoder": ("images",), "decoder": ("embedding", "boxes")}


class GraphEngine(StaysInItsProcess, ABC):
    """The graphs of an engine, by the size of what they take."""

    def __init__(
        self, description: ModelDescription, files: dict[str, Path], stamps: Stamps, needed: Collection[str] = STAGES
    ) -> None:
        """What is loaded later.

        Args:
            stamps: of the files of graphs, from before they were checked.
            needed: stages that `files` must have; see `edge.engines.model_folder.stage_for`.
        """
        missing = [stage for stage in needed if stage not in files]
        if missing:
            folder = next(iter(files.values())).parent
            raise ModelError(f"{folder}: has no graph {' and '.join(missing)} for this engine; export the model again")
        self.description, self._files, self._stamps = description, files, stamps
        self._graphs: dict[int, dict[str, Graph]] = {}
        self._loading = threading.Lock()

    def decode(self, embedding: Array, boxes: Array, within: Within = None) -> Array:
        stride = self.description.stride
        return decode_boxes(self._graph("decoder", embedding.shape[-1] * stride), embedding, boxes, within, stride)

    def prepare(self, batches: Mapping[int, int]) -> None:
        """See `edge.engines.runtime.Engine`; reading a graph takes one core."""
        refuse_forked_process()
        if all(side in self._graphs for side in batches):
            return
        with self._loading:
            missing = {side: boxes for side, boxes in batches.items() if side not in self._graphs}
            with ThreadPoolExecutor(available_cores()) as pool:
                loads = {
                    (side, stage): pool.submit(self._load, stage, side, boxes)
                    for side, boxes in missing.items()
                    for stage in STAGES
                }
            for side in missing:
                self._graphs[side] = {stage: loads[side, stage].result() for stage in STAGES}

    def _graph(self, stage: str, side: int) -> Graph:
        """The prepared graph of a stage for frames or views of `side` px."""
        self.prepare({side: 1})
        return self._graphs[side][stage]

    def _check_unchanged(self) -> None:
        """Graphs are read when they are first needed: whether those on the disk are still those that were checked.

        Raises:
            ModelError: a file of the model was changed meanwhile.
        """
        self._stamps = check_unchanged(self.description, self._stamps)

    @abstractmethod
    def _load(self, stage: str, side: int, boxes: int) -> Graph:
        """Read and prepare it, a decoder for so many boxes at first."""


def not_installed(backend: str, other: str) -> RunError:
    """What to do about it."""
    return RunError(f"backend {backend} is not installed: pip install {backend}, or use --backend {other}")


@contextmanager
def as_model_error(path: Path) -> Iterator[None]:
    """An engine's complaint about a graph, in one line that names the file."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # engines raise their own types, RuntimeError and plain Exception
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise ModelError(f"{path}: the engine cannot load it ({reason})") from None


def input_shapes(description: ModelDescription, side: int) -> dict[str, list[int]]:
    """Inputs of both stages for frames (one image, any number of boxes) or views (each box's own), -1 where free."""
    channels, cells = description.embedding_shape[0], side // description.stride
    images = 1 if side == description.input_size else -1
    return {"images": [1, 3, side, side], "embedding": [images, channels, cells, cells], "boxes": [-1, 4]}


def check_ports(
    path: Path, stage: str, inputs: dict[str, Any], output: list[Any], description: ModelDescription, side: int
) -> None:
    """Compare what a graph for frames or views of `side` px takes, and what an encoder gives, with the description.

    Args:
        inputs: name -> dimensions, a number each, or a name or None where it is free.
        output: dimensions likewise.

    Raises:
        ModelError: they differ; with an embedding of another shape boxes would be decoded elsewhere.
    """
    shapes = input_shapes(description, side)
    expected = {name: shapes[name] for name in PORTS[stage]}
    if "cells" in inputs and stage == "decoder":  # of a decoder that upscales only what is asked for
        expected["cells"] = [-1]
    if set(inputs) != set(expected):
        raise ModelError(f"{path}: {stage} has inputs {sorted(inputs)}, expected {sorted(expected)}")
    for name, shape in expected.items():
        _check_shape(f"{path}: {stage} input {name}", list(inputs[name]), shape)
    if stage == "encoder":
        _check_shape(f"{path}: embedding", list(output), [1, *shapes["embedding"][1:]])


def _check_shape(what: str, actual: list[Any], expected: list[int]) -> None:
    if len(actual) != len(expected) or any(_differ(a, b) for a, b in zip(actual, expected, strict=True)):
        raise ModelError(f"{what} has shape {actual}, model.json says {expected}")


def _differ(actual: Any, expected: int) -> bool:
    return isinstance(actual, int) and expected != -1 and actual != expected
