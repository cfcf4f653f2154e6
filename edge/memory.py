"""The memory this process may use, and options that fit into it.

A container's limit is not what the machine reports as free: the kernel kills what goes over it, without a word to the
program. So the limit is read from the control group, and what only saves time (boxes decoded together, embeddings kept
for a second visit) is lowered until a case fits. Masks do not depend on either.
"""

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge.data.case import Case
from edge.data.labels import label_dtype
from edge.engines.model_folder import ModelDescription
from edge.errors import CaseError
from edge.methods import chosen_method, ladder_for
from edge.pipeline import Options
from edge.system.cgroup import ROOT, own_groups
from edge.system.machine import machine_memory_mib
from edge.views.ladder import ViewLadder
from edge.views.view import FRAME_PX

MIB = 2**20
LIMIT_FILES = ("memory.max", "memory.limit_in_bytes")  # version 2, version 1
USABLE = 0.9  # of the limit: page cache being written and the allocator's slack need the rest
BLOCK_MIB = 40  # of one box being decoded in FRAME_PX; 37 measured with OpenVINO in f32
ENCODER_MIB = 280  # of one picture of FRAME_PX being encoded; 265 measured likewise
GRAPHS_MIB = 110  # of the graphs of one size, loaded when they are first needed; 80 to 160 measured with OpenVINO


@dataclass(frozen=True)
class MemoryGuard:
    """What the limit is, and what this process takes of it before the first case."""

    limit_mib: float | None  # None: no limit below the machine's memory
    loaded_mib: float  # resident size before anything was segmented, and no graph loaded

    @classmethod
    def of_this_process(cls) -> "MemoryGuard":
        """The guard of this process, to be asked for once its engine is made."""
        return cls(memory_limit_mib(), resident_mib())

    def fit(self, options: Options, case: Case, description: ModelDescription) -> Options:
        """The options, with smaller blocks and fewer kept embeddings where `case` needs it; never larger ones.

        Half of what is left goes to the block at most, the rest to embeddings. Where nothing is left, one box at a time
        and no embedding kept is the least there is.

        Raises:
            CaseError: the case alone needs more than the limit: the kernel would end this process without a word.
        """
        ladder = ladder_for(chosen_method(case, description, options.method), description)
        sizes = ladder.sizes if ladder else (description.input_size,)
        encoder_mib, block_mib = ENCODER_MIB * _of_frame(sizes[-1]), BLOCK_MIB * _of_frame(sizes[0])
        certain_mib = _case_mib(case, ladder)
        if certain_mib > (limit_mib := self.limit_mib or machine_memory_mib() or math.inf):
            raise CaseError(
                f"{case.name}: needs {certain_mib:.0f} MiB and more, the limit is {limit_mib:.0f} MiB; crop it, "
                "or give the container more memory"
            )
        if self.limit_mib is None:
            return options
        taken = self.loaded_mib + GRAPHS_MIB * len(sizes) + encoder_mib + certain_mib
        taken += _waiting_mib(case, ladder, description.input_size)
        free = USABLE * self.limit_mib - taken
        block = min(options.block, max(1, int(free / 2 / block_mib)))
        budget = min(options.embedding_budget_mib, max(0, int(free - block * block_mib)))
        return replace(options, block=block, embedding_budget_mib=budget)


def _of_frame(size: int) -> float:
    """What a view of `size` px takes of a letterbox's memory."""
    return (size / FRAME_PX) ** 2


def memory_limit_mib(root: Path = ROOT) -> float | None:
    """The lowest limit of this process's control group and those above it (version 1 or 2); None: there is none.

    Args:
        root: below which `/proc` and `/sys` lie.
    """
    limits = [_limit(folder / file) for folder in own_groups("memory", root) for file in LIMIT_FILES]
    most = (machine_memory_mib() or math.inf) * MIB
    known = [limit for limit in limits if limit is not None and limit < most]
    return min(known) / MIB if known else None


def resident_mib() -> float:
    """Resident size of this process in MiB; 0 where the kernel does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" in version 2


def _case_mib(case: Case, ladder: ViewLadder | None) -> float:
    """What a case takes while it is segmented, at the least: image, labels, and what the largest view of `ladder` shows
    of the image before that is resized.
    """
    labels = int(np.prod(case.shape)) * np.dtype(label_dtype(len(case.boxes))).itemsize
    shown = 0.0
    if ladder and len(case.boxes):
        boxes = case.boxes_on_slice
        side = float((boxes[:, 2:] - boxes[:, :2]).max() + 1) / ladder.box_share
        shown = side**2 * (1 if case.is_volume else 3)
    return (case.image.nbytes + labels + shown) / MIB


def _waiting_mib(case: Case, ladder: ViewLadder | None, frame_px: int) -> float:
    """Logits of a volume that wait for their slice's other boxes, at the most.

    Args: ladder: views that the logits are of; None: letterboxes of `frame_px`.
    """
    if not case.is_volume:
        return 0.0
    width, height, depth = ((case.boxes[:, axis + 3] - case.boxes[:, axis] + 1) for axis in range(3))
    scales = np.full(len(case.boxes), frame_px / max(case.shape[1:]))
    if ladder:
        scales = np.array([ladder.view_around(box).scale for box in case.boxes_on_slice])
    return float((width * height * scales**2 * depth).sum()) * np.dtype(np.float32).itemsize / MIB
