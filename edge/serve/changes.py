"""What the page is told of the masks: lines of JSON, one for each slice as it is found, the last of all objects.

`block` is a part of the label map at `offset` in the viewer's voxels: its uint8 in Fortran order, packed by zlib, in
base64, as `data`.
"""

import base64
import json
import traceback
import zlib
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.data.extent import Extent, extent_of
from edge.errors import SamedgeError
from edge.serve.leases import Lease
from edge.serve.session import Session
from edge.serve.slices import Answer
from edge.serve.uploads import Uploads
from edge.serve.viewer import Image

MAX_LABEL = 255  # that the viewer shows


class _Stopped(Exception):
    """The user has seen enough."""


@dataclass(eq=False)
class Opened:
    """What the page of one client shows."""

    name: str  # of the case, on the page
    image: Image
    session: Session
    labels: npt.NDArray[np.uint8]  # (I, J, K) as the page has it
    uploads: Uploads | None = None  # the files that the user had sent then: label maps are written like the image's own
    touched: list[Extent] = field(default_factory=list)  # where it has more than that, of slices told on the way


def change(lease: Lease, opened: Opened, act: Callable[[], str | None], label: int | None = None) -> Generator[bytes]:
    """The lines of a change; whoever stops reading takes it back.

    Args:
        act: what the user does, and what to say of it with the last line, if anything.
        label: the object whose mask is to be found then; None: those of all are known.
    """
    lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    stopped = Event()

    def on_slice(axis: int, answer: Answer) -> None:
        if stopped.is_set():
            raise _Stopped
        lines.put(_slice_line(opened, label or 0, axis, answer))

    def find(label: int) -> None:
        try:
            opened.session.mask(label, on_slice)
        except BaseException:
            opened.session.undo()
            raise

    def work() -> None:
        try:
            with lease.lock:  # also while a box is taken back: what is asked next waits for it
                try:
                    message = act()
                    if label is not None:
                        find(label)
                    lines.put({**_last_line(opened), **({"message": message} if message else {})})
                except _Stopped:
                    pass
                except Exception as error:
                    if not isinstance(error, SamedgeError):
                        traceback.print_exc()
                    if opened.touched:  # the page has slices of a box that is none any more
                        with suppress(Exception):  # the same fault again must not keep the first from being told
                            lines.put(_last_line(opened))
                    lines.put({"error": str(error) or type(error).__name__})
        finally:
            lines.put(None)

    Thread(target=work, daemon=True).start()
    try:
        while (line := lines.get()) is not None:
            yield json.dumps(line).encode() + b"\n"
    finally:
        stopped.set()


def _slice_line(opened: Opened, label: int, axis: int, answer: Answer) -> dict[str, Any]:
    """What was found on a slice, painted over what the page has."""
    if answer.mask is None:
        return {"slice": answer.z}
    mask, grid = answer.mask, opened.image.grid
    start, sides = [mask.top, mask.left], list(mask.pixels.shape)
    start.insert(axis, answer.z)
    sides.insert(axis, 1)
    block = grid.block(tuple(start), tuple(sides))
    opened.touched.append(block)
    found = grid.shown(np.expand_dims(mask.pixels, axis))
    return {"slice": answer.z, "block": _packed(block, np.where(found, np.uint8(label), opened.labels[block]))}


def _last_line(opened: Opened) -> dict[str, Any]:
    """All objects, and the label map wherever the page may have another."""
    session, case = opened.session, opened.image.case
    volume = session.label_map().astype(np.uint8).reshape(case.shape if case.is_volume else (1, *case.shape))
    labels = np.asfortranarray(opened.image.grid.shown(volume))
    differs = labels != opened.labels
    for block in opened.touched:
        differs[block] = True
    changed = extent_of(differs)
    opened.labels, opened.touched = labels, []
    counts = np.bincount(labels.ravel(order="K"), minlength=MAX_LABEL + 1)
    voxel_ml = None if case.spacing_mm is None else float(np.prod(case.spacing_mm)) / 1000
    objects = [
        {
            "label": label,
            "voxels": int(counts[label]),
            "ml": None if voxel_ml is None else round(float(counts[label]) * voxel_ml, 3),
            "stability": round(session.stability(label), 3),
            "boxes": [opened.image.grid.box_from_volume(one.box).tolist() for one in boxes],
        }
        for label, boxes in session.objects.items()
    ]
    return {"objects": objects, **({"block": _packed(changed, labels[changed])} if labels[changed].size else {})}


def _packed(block: Extent, labels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    content = zlib.compress(np.asarray(labels, np.uint8).tobytes(order="F"), 1)
    return {
        "offset": [part.start for part in block],
        "shape": list(labels.shape),
        "data": base64.b64encode(content).decode(),
    }
