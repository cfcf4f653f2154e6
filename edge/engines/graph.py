"""A loaded graph: it serves any thread of the process that loaded it, and no other process."""

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edge.engines.cells import cells_of, logit_maps, windows_over
from edge.errors import RunError

Array = npt.NDArray[np.float32]
Within = Array | None  # boxes (N, 4) in the model frame, outside of which a mask is not looked at; None: everywhere
Inputs = dict[str, npt.NDArray]  # by name
Run = Callable[[Inputs], Array]  # to the one output


class Graph:
    """A graph ready to run."""

    def __init__(self, ports: list[str], run: Run) -> None:
        """Args: ports: names of the inputs. run: what any thread may call at any time."""
        self.ports = ports
        self._run = run

    def run(self, inputs: Inputs) -> Array:
        """The graph's output, owned by the caller.

        Raises:
            RunError: see `refuse_forked_process`.
        """
        refuse_forked_process()  # before any lock, which may have been held at the fork
        return self._run({name: np.ascontiguousarray(array) for name, array in inputs.items()})


class StaysInItsProcess:
    """What holds graphs cannot be pickled."""

    def __reduce__(self) -> str:
        raise RunError("a loaded engine cannot be sent to another process; make a Segmenter (or load_engine) there")


_owner: int | None = None  # the process that loaded an engine last


def load_here() -> None:
    """Make this process the one that runs engines, before the first is loaded.

    Raises:
        RunError: see `refuse_forked_process`.
    """
    global _owner
    refuse_forked_process()
    _owner = os.getpid()


def refuse_forked_process() -> None:
    """Keep engines out of processes forked from one that had loaded an engine.

    A fork copies the locks of the engines and of OpenCV as they are, but not the threads that would release them: such
    a process may wait for ever, with an engine of its own too.

    Raises:
        RunError: this is such a process.
    """
    if _owner not in (None, os.getpid()):
        raise RunError(
            f"this process was forked from process {_owner}, which had loaded an engine, and engines do not survive a "
            "fork; use multiprocessing.get_context('spawn'), or load the first engine after the fork"
        )


def decode_boxes(graph: Graph, embedding: Array, boxes: Array, within: Within, stride: int) -> Array:
    """Logit maps (N, stride * h, stride * w) from a decoder that takes the cells to upscale, or one that does all."""
    inputs = {"embedding": embedding, "boxes": boxes}
    if "cells" not in graph.ports:
        return graph.run(inputs)
    grid = embedding.shape[-1]
    everywhere = np.tile(np.array([0, 0, grid, grid], np.float32) * stride, (len(boxes), 1))
    windows = windows_over(everywhere if within is None else within, grid, stride)
    return logit_maps(graph.run({**inputs, "cells": cells_of(windows, grid)}), windows, grid)
