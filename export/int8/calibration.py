"""Slices to calibrate with and cases to check on, from a folder of labelled cases, each modality alike.

What is calibrated with and what is measured on never share a case: cases are dealt out by the hash of their name.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice, zip_longest
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.data.modality import modality_of
from edge.data.names import case_name
from edge.errors import CaseError
from edge.prompts.prompt import Mask
from edge.prompts.propagation import PropagatedPrompts
from edge.prompts.slice_ranges import SliceRanges
from edge.views.ladder import ViewLadder
from edge.views.prepare import ViewInputs, prepare, prepare_view
from train.data.cases import find_objects, find_sources, read_boxed, read_slices, truth_of

HELD_OUT_SHARE = 0.25  # of the cases of each modality
SLICES_PER_CASE = 2
STEPS = 1  # of a walk, each way


def divide(folder: Path) -> tuple[list[Path], list[Path]]:
    """The labelled cases of a folder: those to calibrate with, and those held out, of every modality.

    Raises:
        CaseError: no folder, nothing labelled in it, or a modality with a single case only.
    """
    calibration: list[Path] = []
    held_out: list[Path] = []
    for sources in _by_modality(find_sources([folder])).values():
        names = list(dict.fromkeys(map(case_name, sources)))  # the channels of a case stay together
        held = set(names[: max(1, round(HELD_OUT_SHARE * len(names)))])
        held_out += [source for source in sources if case_name(source) in held]
        calibration += [source for source in sources if case_name(source) not in held]
    if not calibration:
        raise CaseError(f"{folder}: calibration needs more than one labelled case of a modality")
    return calibration, held_out


def calibration_inputs(
    sources: Iterable[Path], count: int, ladder: ViewLadder | None = None, *, walks: bool = False
) -> list[npt.NDArray[np.float32]]:
    """Up to `count` network inputs (1, 3, S, S), as edge prepares them, from each modality in turn; the same each time.

    Args:
        ladder: of every slice the view of its largest object, and of a case's first the frame too; None: frames only.
        walks: of volumes also steps of their first object's walk, given its true masks.

    Raises:
        CaseError: a case cannot be read.
    """
    groups = _by_modality(sources).values()
    streams = [_views_and_frames(group, ladder, walks) if ladder else _frames(group) for group in groups]
    return list(islice(_in_turn(streams), count))


def choose_cases(sources: Iterable[Path], per_modality: int) -> list[Path]:
    """The first `per_modality` cases of each modality, in the order of their names' hashes."""
    return list(chain.from_iterable(group[:per_modality] for group in _by_modality(sources).values()))


def _by_modality(sources: Iterable[Path]) -> dict[str, list[Path]]:
    """Cases by modality, within each in an order that has nothing to do with how they were named."""
    groups: dict[str, list[Path]] = {}
    for source in sorted(sources, key=lambda source: hashlib.sha256(os.fsencode(case_name(source))).hexdigest()):
        groups.setdefault(modality_of(case_name(source)), []).append(source)
    return dict(sorted(groups.items()))


def _frames(sources: list[Path]) -> Iterator[npt.NDArray[np.float32]]:
    for source in sources:
        for piece in read_slices(source, SLICES_PER_CASE):
            yield prepare(piece.image)[None]


def _views_and_frames(sources: list[Path], ladder: ViewLadder, walks: bool) -> Iterator[npt.NDArray[np.float32]]:
    for source in sources:
        for number, piece in enumerate(read_slices(source, SLICES_PER_CASE)):
            objects = find_objects(piece.labels)
            label, *extent = objects[objects[:, 5].argmax(), :5].tolist()
            view = ladder.view_around(piece.prompts.get(label, np.array(extent, float)))
            yield prepare_view(view, piece.image, int(piece.image.min()), int(piece.image.max()))[None]
            if number == 0:
                yield prepare(piece.image)[None]
        if walks:
            yield from _steps(source, ladder)


def _steps(source: Path, ladder: ViewLadder) -> Iterator[npt.NDArray[np.float32]]:
    """A step upwards and one downwards through a volume; nothing of a picture, or where an object is on one slice."""
    try:
        case = read_boxed(source)
    except CaseError:  # it holds no box: `read_slices` has read it before, or said why it cannot be
        return
    if not case.is_volume:
        return
    truth, inputs = truth_of(case) == 1, ViewInputs(case.image, "min-max", walks=True)
    walk = PropagatedPrompts(case.boxes_on_slice[:1], SliceRanges.from_boxes(case.boxes[:1]), margin_px=0)
    for number, prompts in enumerate(walk.rounds()):
        for prompt in prompts:
            if prompt.neighbour is not None and number <= STEPS:
                yield inputs.part(prompt, ladder.view_around(prompt.box))[None]
            walk.give(prompt, Mask.cut(truth[prompt.z]))


def _in_turn(streams: list[Iterator[npt.NDArray[np.float32]]]) -> Iterator[npt.NDArray[np.float32]]:
    for row in zip_longest(*streams):
        yield from (item for item in row if item is not None)
