"""One image that boxes are drawn on: objects, their masks, undo and redo. No network protocol, no disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from threading import RLock

import numpy as np
import numpy.typing as npt

from edge.choices import FIXED
from edge.data.case import Case, make_case
from edge.data.labels import MAX_LABEL, label_dtype
from edge.errors import CaseError, RunError
from edge.masks.stability import stability
from edge.methods import Scene, chosen_method
from edge.prompts.prompt import PromptSource
from edge.segmenter import Segmenter
from edge.serve.slices import REMEMBERED_BYTES, Answer, Slices
from edge.serve.walk import BoxedWalk, Ends

ORDER = {0: [0, 1, 2], 1: [0, 2, 1], 2: [1, 2, 0]}  # axis of (D, H, W) -> which of x, y, z its slices' x, y, z are
OnSlice = Callable[[int, Answer], None]  # axis of the volume, and what was found on a slice along it

Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BoxPrompt:
    """A box as it was drawn."""

    box: tuple[float, ...]  # x_min y_min z_min x_max y_max z_max, inclusive voxels, cut off at the border
    axis: int  # of the volume (D, H, W) that slices are taken along
    walks: bool  # it is of one slice, and the object goes on beyond it

    @property
    def in_slices(self) -> Rows:
        """The box (6,) with its axis as z, in the order of `Session.slices_along`."""
        return np.array(self.box).reshape(2, 3)[:, ORDER[self.axis]].ravel()


Objects = Mapping[int, tuple[BoxPrompt, ...]]  # label -> its boxes, in the order they were drawn


@dataclass(eq=False)
class _Found:
    """The answers to an object's boxes."""

    axis: int
    answers: dict[int, Answer] = field(default_factory=dict)  # slice -> the last one

    @property
    def voxels(self) -> int:
        """Of the mask."""
        return sum(int(answer.mask.pixels.sum()) for answer in self.answers.values() if answer.mask)

    @property
    def nbytes(self) -> int:
        return sum(answer.nbytes for answer in self.answers.values())

    def paint(self, volume: npt.NDArray, value: int) -> None:
        """Set a volume (D, H, W) to a value where the mask is."""
        along = np.moveaxis(volume, self.axis, 0)
        for z, answer in self.answers.items():
            if (part := answer.mask) is not None:
                rows, columns = part.pixels.shape
                along[z, part.top : part.top + rows, part.left : part.left + columns][part.pixels] = value


class Session:
    """An image, the boxes of its objects, and the masks that come of them.

    An object with one box in 3D, or one in an image, gets the mask of `samedge predict` with that box alone, but that a
    box near an earlier one is decoded in the view of that, see `edge.serve.slices.Slices`. A box of one slice walks:
    mask by mask to where the object ends, as the method `propagated` does. Every further box of an object is kept, and
    the walk goes between them; the newest on a slice counts. Any thread may call, also draw while another waits for a
    mask; one mask is found at a time.
    """

    def __init__(self, segmenter: Segmenter, case: Case) -> None:
        """Begin without an object.

        Args:
            case: the image (H, W, 3) or volume (D, H, W) in greys as `edge.data.scan.case_of` or `edge.make_case` give
                it; its boxes are passed over. Its spacing says how many slices an object is expected to go on.

        Raises:
            RunError: the model takes no boxes.
        """
        method = chosen_method(case, segmenter.engine.description, segmenter.options.method)
        if method == FIXED:
            raise RunError("the model finds its objects without boxes; use samedge predict")
        self.case, self._segmenter, self._method = case, segmenter, method
        self._slices: dict[int, Slices] = {}
        self._found: dict[tuple[BoxPrompt, ...], _Found] = {}
        self._past: list[Objects] = []
        self._objects: Objects = {}
        self._future: list[Objects] = []
        self._lock, self._finding = RLock(), RLock()  # of what was drawn, and of what is found

    @property
    def objects(self) -> Objects:
        """Label -> its boxes, in the order they were drawn."""
        return self._objects

    @property
    def nbytes(self) -> int:
        """Of the image and what is remembered of it, about."""
        slices = sum(one.nbytes for one in list(self._slices.values()))
        return self.case.image.nbytes + slices + sum(one.nbytes for one in list(self._found.values()))

    def add_box(self, label: int, box: npt.ArrayLike, *, walk: bool = True) -> None:
        """Draw a box; its mask is found when it is asked for.

        Args:
            label: of the object, new or not, 1 to MAX_LABEL.
            box: (6,) x_min y_min z_min x_max y_max z_max, or in an image (4,); inclusive pixels. One slice thick along
                an axis, it lies on a slice along that, the first such axis of z, y, x.
            walk: such a box is followed through the volume; else it is one slice of the object's.

        Raises:
            CaseError: it does not fit the image, or the object's other boxes lie along another axis.
        """
        if not 1 <= label <= MAX_LABEL:
            raise CaseError(f"{self.case.name}: an object's label is 1 to {MAX_LABEL}, got {label}")
        with self._lock:
            prompt = self._prompt(box, walk)
            before = self._objects.get(label, ())
            if before and before[0].axis != prompt.axis:
                raise CaseError(f"{self.case.name}: all boxes of an object lie along one axis; begin another object")
            self._go_to({**self._objects, label: (*before, prompt)})

    def remove(self, label: int) -> None:
        """Take an object away, with all of its boxes."""
        with self._lock:
            self._go_to({known: boxes for known, boxes in self._objects.items() if known != label})

    def undo(self) -> bool:
        """Take the last `add_box` or `remove` back; whether there was one."""
        return self._step(self._past, self._future)

    def redo(self) -> bool:
        """Do again what was undone last; whether there was something."""
        return self._step(self._future, self._past)

    def reset(self) -> None:
        """Forget all objects and what could be undone; what the network answered is kept."""
        with self._lock:
            self._past, self._objects, self._future = [], {}, []

    def mask(self, label: int, on_slice: OnSlice | None = None) -> npt.NDArray[np.bool_]:
        """The mask of an object, (D, H, W) or (H, W); all False of one without boxes.

        Args:
            on_slice: told of each slice as it is found, in the calling thread; what it raises ends the search, which
                goes on from there when the mask is asked for again.
        """
        mask = np.zeros(self.case.shape, dtype=bool)
        if boxes := self._objects.get(label):
            self._find(boxes, on_slice).paint(self._as_volume(mask), True)
        return mask

    def stability(self, label: int) -> float:
        """How sure the model is of an object, 0 to 1: see `edge.masks.stability`; 0 of none."""
        boxes = self._objects.get(label)
        found = [one.areas for one in self._find(boxes).answers.values()] if boxes else []
        return stability(np.sum(found, axis=0)) if found else 0.0

    def label_map(self) -> npt.NDArray:
        """All masks as labels, (D, H, W) or (H, W), uint8 or uint16; the smaller of two objects lies on top."""
        found = {label: self._find(boxes) for label, boxes in self._objects.items()}
        labels = np.zeros(self.case.shape, label_dtype(max(found, default=0)))
        for label in sorted(found, key=lambda label: -found[label].voxels):
            found[label].paint(self._as_volume(labels), label)
        return labels

    def _as_volume(self, array: npt.NDArray) -> npt.NDArray:
        return array if self.case.is_volume else array[None]

    def slices_along(self, axis: int) -> Slices:
        """The volume with slices along an axis of (D, H, W) first: (D, H, W), (H, D, W) or (W, D, H)."""
        with self._lock:
            if axis not in self._slices:
                slices = np.moveaxis(self.case.slices, axis, 0)
                self._slices[axis] = Slices(slices, self._segmenter, self._method)
            return self._slices[axis]

    def _prompt(self, box: npt.ArrayLike, walk: bool) -> BoxPrompt:
        checked = make_case(self.case.name, self.case.image, box, shaped=3 if self.case.is_volume else 2).boxes
        if len(checked) != 1:
            raise CaseError(f"{self.case.name}: one box at a time, got {len(checked)}")
        if not self.case.is_volume:
            return BoxPrompt(tuple(np.insert(checked[0], [2, 4], 0).tolist()), 0, walks=False)
        low, high = np.floor(checked[0].reshape(2, 3)[:, ::-1])
        flat = np.flatnonzero(low == high)
        axis = int(flat[0]) if flat.size else 0
        return BoxPrompt(tuple(checked[0].tolist()), axis, walks=bool(flat.size) and walk and self.case.shape[axis] > 1)

    def _find(self, boxes: tuple[BoxPrompt, ...], on_slice: OnSlice | None = None) -> _Found:
        with self._finding:
            if boxes not in self._found:
                found = _Found(boxes[0].axis)
                for answer in self.slices_along(found.axis).ask(self._source(boxes)):
                    found.answers[answer.z] = answer
                    if on_slice is not None:
                        on_slice(found.axis, answer)
                self._found[boxes] = found
                shown = {boxes, *self._objects.values()}  # whose masks the next action asks for again
                for old in [one for one in self._found if one not in shown]:
                    if sum(one.nbytes for one in self._found.values()) <= REMEMBERED_BYTES:
                        break
                    del self._found[old]
            return self._found[boxes]

    def _source(self, boxes: tuple[BoxPrompt, ...]) -> PromptSource:
        """Where the prompts of one object come from: of a single box without a walk `predict`'s own source."""
        slices, rows = self.slices_along(boxes[0].axis).array, np.stack([one.in_slices for one in boxes])
        margin_px = self._segmenter.options.box_margin_px
        if len(boxes) == 1 and not boxes[0].walks:
            shown = slices if self.case.is_volume else self.case.image
            case = replace(self.case, image=shown, boxes=rows if self.case.is_volume else rows[:, [0, 1, 3, 4]])
            return Scene.of(case, self._segmenter.engine.description, self._method).source(margin_px)
        latest = {int((row[2] + row[5]) / 2): at for at, row in enumerate(rows)}  # of those of one middle slice
        rows, walks = rows[[*latest.values()]], any(boxes[at].walks for at in latest.values())
        boxed = dict(zip(latest, rows[:, [0, 1, 3, 4]], strict=True))
        return BoxedWalk(boxed, self._ends(boxes[0].axis, rows, len(slices), walks), margin_px)

    def _ends(self, axis: int, rows: Rows, depth: int, walks: bool) -> Ends:
        """A box in 3D says where its object ends, and so do slices alone; else it is expected to be as deep as wide."""
        if not walks or (np.floor(rows[:, 2]) < np.floor(rows[:, 5])).any():
            return Ends(int(rows[:, 2].min()), int(rows[:, 5].max()), None)
        *side_mm, step_mm = np.array(self.case.spacing_mm or (1, 1, 1))[::-1][ORDER[axis]]
        size_mm = (rows[:, 3:5] - rows[:, 0:2] + 1) * side_mm
        return Ends(0, depth - 1, float(size_mm.mean()) / 2 / float(step_mm))

    def _go_to(self, objects: Objects) -> None:
        self._past.append(self._objects)
        self._objects, self._future = objects, []

    def _step(self, back: list[Objects], ahead: list[Objects]) -> bool:
        with self._lock:
            if back:
                ahead.append(self._objects)
                self._objects = back.pop()
                return True
            return False
