"""An image that boxes are drawn on: masks, walks, undo; without a server."""

import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.data.case import Case, make_case, read_case
from edge.errors import CaseError
from edge.pipeline import Options
from edge.segmenter import Segmenter
from edge.serve.session import Session
from edge.serve.slices import Answer

CASES = Path(__file__).parents[3] / "cases"


@pytest.fixture
def blank() -> Case:
    """A volume in which the filler's masks are the boxes to the pixel."""
    return make_case("3DBox_CT_blank", np.zeros((9, 256, 256), np.uint8), np.zeros((0, 6)))


@pytest.mark.parametrize("method", ["tracked", "propagated", "baseline"])
def test_a_box_in_3d_gives_the_mask_of_predict(tiny_model: Path, blank: Case, method: str) -> None:
    """Voxel by voxel, with each method."""
    segmenter, box = Segmenter(tiny_model, options=Options(method=method)), np.array([10, 20, 1, 49, 59, 7])
    session = Session(segmenter, blank)
    session.add_box(5, box)
    assert session.mask(5).any()
    assert np.array_equal(session.mask(5), segmenter.segment_arrays(blank.image, box[None], blank.name) == 1)


@pytest.mark.parametrize("name", ["3DBox_CT_phantom", "2DBox_US_phantom"])
def test_the_model_that_ships_gives_the_mask_of_predict(shipped: Segmenter, name: str) -> None:
    """Of a volume and of an image."""
    case = read_case(CASES / f"{name}.npz")
    box = case.boxes[np.argmin(case.boxes[:, 5] - case.boxes[:, 2] if case.is_volume else case.boxes[:, 0])]
    session = Session(shipped, case)
    session.add_box(1, box)
    assert session.mask(1).any()
    assert np.array_equal(session.mask(1), shipped.segment_arrays(case.image, box[None], name) == 1)


def test_a_box_on_one_slice_walks_to_where_the_object_ends(shipped: Segmenter) -> None:
    """A ball of the phantom is found on most of its slices, and nothing far beyond them."""
    depth, height, width = np.ogrid[:40, :96, :96]
    inside = (depth - 20) ** 2 + (height - 48) ** 2 + (width - 48) ** 2 < 14**2
    noise = np.random.default_rng(0).integers(0, 20, inside.shape, np.uint8)
    image = np.where(inside, np.uint8(180), np.uint8(60)) + noise
    session = Session(shipped, make_case("CT", image, np.zeros((0, 6))))
    session.add_box(1, [34, 34, 20, 62, 62, 20])
    mask = session.mask(1)
    assert 2 * (mask & inside).sum() / (mask.sum() + inside.sum()) > 0.85


@pytest.mark.parametrize(("axis", "reach"), [(0, 9), (1, 19), (2, 60)])
def test_a_walk_goes_along_the_axis_that_its_box_is_flat_in(filler: Segmenter, axis: int, reach: int) -> None:
    """The mask of the filler is its box, carried on to three times half the mean of the box's sides, in mm."""
    case = replace(make_case("CT", np.zeros((80, 80, 80), np.uint8), np.zeros((0, 6))), spacing_mm=(2.0, 1.0, 0.5))
    low, high = np.array([20, 30, 50]), np.array([29, 49, 59])  # z, y, x
    low[axis] = high[axis] = 40
    session = Session(filler, case)
    session.add_box(1, [*low[::-1], *high[::-1]])
    mask = session.mask(1)
    found = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {one}))) for one in range(3)]
    assert found[axis].tolist() == list(range(max(0, 40 - reach), min(80, 41 + reach)))
    for one in {0, 1, 2} - {axis}:
        assert abs(found[one][0] - low[one]) <= 1 and abs(found[one][-1] - high[one]) <= 1


def test_a_slice_of_its_own_does_not_cut_off_what_was_followed(filler: Segmenter, blank: Case) -> None:
    """It counts on its slice; beyond, the object goes on to where it ended before."""
    session = Session(filler, blank)
    session.add_box(1, [10, 10, 3, 20, 20, 3])
    assert np.flatnonzero(session.mask(1).any(axis=(1, 2))).tolist() == list(range(9))
    session.add_box(1, [10, 10, 5, 20, 20, 5], walk=False)
    assert np.flatnonzero(session.mask(1).any(axis=(1, 2))).tolist() == list(range(9))


def test_of_two_boxes_in_3d_with_one_middle_the_newer_says_where_it_ends(filler: Segmenter, blank: Case) -> None:
    """An object that was boxed too deep can be made shorter."""
    session = Session(filler, blank)
    for first, last in ((1, 7), (3, 5)):
        session.add_box(1, [10, 10, first, 20, 20, last])
    assert np.flatnonzero(session.mask(1).any(axis=(1, 2))).tolist() == [3, 4, 5]


def test_a_label_map_takes_the_memory_of_one(filler: Segmenter) -> None:
    """Of twenty objects in a volume of 8 MiB: not a mask of each."""
    session = Session(filler, make_case("3DBox_CT_a", np.zeros((32, 512, 512), np.uint8), np.zeros((0, 6))))
    for label in range(1, 21):
        session.add_box(label, [20 * label, 20, 4, 20 * label + 9, 29, 5])
    expected = np.zeros(session.case.shape, np.uint8)
    for label in session.objects:
        expected[session.mask(label)] = label
    tracemalloc.start()
    labels = session.label_map()
    peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert np.array_equal(labels, expected) and len(np.unique(labels)) == 21 and peak_mib < 10


def test_a_second_box_is_kept_and_the_walk_goes_between(filler: Segmenter, blank: Case) -> None:
    """Each mask is carried half-way to the other; no slice is left out."""
    session = Session(filler, blank)
    session.add_box(1, [10, 10, 2, 49, 49, 2], walk=False)
    session.add_box(1, [100, 10, 7, 149, 59, 7], walk=False)
    mask = session.mask(1)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [2, 3, 4, 5, 6, 7]
    assert [int(np.flatnonzero(mask[z].any(axis=0))[0]) for z in range(2, 8)] == [10, 10, 10, 100, 100, 100]


def test_undo_and_redo_give_the_masks_of_before(filler: Segmenter, blank: Case) -> None:
    """Also of an object that was taken away; a new box ends what could be redone."""
    session = Session(filler, blank)
    assert not session.undo() and not session.redo()
    session.add_box(1, [10, 10, 0, 49, 49, 8])
    first = session.mask(1)
    session.add_box(2, [100, 100, 0, 149, 149, 8])
    session.remove(1)
    assert set(session.objects) == {2} and not session.mask(1).any()
    assert session.undo() and np.array_equal(session.mask(1), first)
    assert session.undo() and set(session.objects) == {1}
    assert session.redo() and set(session.objects) == {1, 2}
    session.undo()
    session.add_box(3, [0, 0, 0, 9, 9, 8])
    assert not session.redo()
    assert sorted(np.unique(session.label_map()).tolist()) == [0, 1, 3]
    session.reset()
    assert not session.objects and not session.undo() and not session.label_map().any()


def test_a_smaller_object_is_on_top(filler: Segmenter, blank: Case) -> None:
    """Whichever was drawn first."""
    session = Session(filler, blank)
    session.add_box(1, [20, 20, 3, 29, 29, 3], walk=False)
    session.add_box(2, [10, 10, 3, 49, 49, 3], walk=False)
    assert [(session.label_map() == label).sum() for label in (1, 2)] == [100, 1500]


def test_slices_come_one_by_one_and_a_stopped_search_goes_on(filler: Segmenter, blank: Case) -> None:
    """Whoever is told of a slice may end the search; asked again, it takes up what was found."""
    session, seen = Session(filler, blank), []
    session.add_box(1, [10, 10, 0, 49, 49, 8])

    def stop(axis: int, answer: Answer) -> None:
        seen.append((axis, answer.z))
        if len(seen) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        session.mask(1, stop)
    assert session.mask(1, lambda axis, answer: seen.append((axis, answer.z))).any(axis=(1, 2)).all()
    assert sorted(seen[3:]) == [(0, z) for z in range(9)]


def test_one_may_draw_while_a_walk_goes_on(filler: Segmenter, blank: Case) -> None:
    """Another thread draws and undoes, and waits for nothing; the mask is of the boxes it was asked for."""
    session, drawn = Session(filler, blank), []
    session.add_box(1, [10, 10, 0, 49, 49, 8])

    def draw() -> None:
        session.add_box(2, [100, 100, 0, 149, 149, 8])
        session.add_box(1, [60, 60, 3, 79, 79, 3])
        session.undo()
        drawn.append(set(session.objects))

    def meanwhile(axis: int, answer: Answer) -> None:
        if not drawn:
            thread = threading.Thread(target=draw)
            thread.start()
            thread.join(10)

    mask = session.mask(1, meanwhile)
    assert drawn == [{1, 2}] and np.array_equal(mask, session.mask(1))


def test_what_was_encoded_is_decoded_only(filler: Segmenter, blank: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a model for whole slices: a changed box encodes nothing."""
    session, encoded = Session(filler, blank), []
    encode = filler.engine.encode
    monkeypatch.setattr(filler.engine, "encode", lambda images: encoded.append(len(images)) or encode(images))
    for right in (49, 59, 69):
        session.add_box(1, [10, 10, 4, right, 49, 4], walk=False)
        assert session.mask(1).sum() == (right - 9) * 40
    assert len(encoded) == 1


def test_a_box_near_one_drawn_before_is_decoded_in_its_view(
    shipped: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a model for views: up to a tenth of the view away, at the same size and on the same slice; whatever else was
    drawn before gives the mask of predict."""
    disc = np.hypot(*np.mgrid[-64:64, -64:64]) < 25
    image = np.where(disc, np.uint8(180), np.uint8(60)) + np.zeros((4, 1, 1), np.uint8)
    session, encoded = Session(shipped, make_case("CT", image, np.zeros((0, 6)))), []
    encode = shipped.engine.encode
    monkeypatch.setattr(shipped.engine, "encode", lambda images: encoded.append(images.shape[-1]) or encode(images))

    def draw(x: int, x_end: int, z: int) -> int:
        """Encodings of a new object's box, around which a view is 1 / 0.72 as wide, and its DSC."""
        before, label = len(encoded), len(session.objects) + 1
        session.add_box(label, [x, 38, z, x_end, 90, z], walk=False)
        mask = session.mask(label)[z]
        truth = disc & (np.arange(128) >= x) & (np.arange(128) <= x_end)
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.9
        return len(encoded) - before

    assert draw(38, 90, 1) == 1  # 53 px in a view of 74
    assert draw(40, 92, 1) == draw(32, 84, 1) == draw(42, 90, 1) == 0
    assert draw(30, 82, 1) == 1  # 8 px
    assert draw(38, 90, 2) == 1
    assert set(encoded) == {112}
    session.add_box(9, [45, 45, 1, 83, 83, 1], walk=False)
    assert session.mask(9).any() and encoded[-1] == 56
    expected = shipped.segment_arrays(image, [[38, 38, 2, 90, 90, 2]], "3DBox_CT") == 1
    session.add_box(10, [38, 38, 2, 90, 90, 2], walk=False)
    assert np.array_equal(session.mask(10), expected)


def test_of_views_the_last_are_kept(shipped: Segmenter, blank: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for two of 112 px, of 0.8 MB each: of five the first is encoded again, the last is not."""
    monkeypatch.setattr("edge.serve.slices.REMEMBERED_BYTES", 2_000_000)
    session, encoded = Session(shipped, blank), []
    encode = shipped.engine.encode
    monkeypatch.setattr(shipped.engine, "encode", lambda images: encoded.append(len(images)) or encode(images))
    for label, z in enumerate([0, 1, 2, 3, 4, 4, 0], 1):
        session.add_box(label, [38 + label, 38, z, 90 + label, 90, z], walk=False)
        session.mask(label)
    assert len(encoded) == 6 and session.slices_along(0)._embeddings.nbytes <= 2_000_000


def test_what_is_remembered_is_bounded(filler: Segmenter, blank: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was asked longest ago and is not shown is forgotten first, and asked again gives the same."""
    for module in ("slices", "session"):
        monkeypatch.setattr(f"edge.serve.{module}.REMEMBERED_BYTES", 500_000)
    session = Session(filler, blank)
    before = session.nbytes
    for label in range(1, 8):
        session.add_box(label, [label, 10, 0, 199, 199, 8])
    masks = [session.mask(label) for label in range(1, 8)]
    slices = session.slices_along(0)
    assert before == blank.image.nbytes and 0 < slices._answer_bytes <= 500_000
    assert slices._answer_bytes == sum(answer.nbytes for answer in slices._answers.values())
    found = [answer.nbytes for found in session._found.values() for answer in found.answers.values()]
    assert len(session._found) == 7 and session.nbytes - before == slices.nbytes + sum(found)
    session._found.clear()
    assert all(np.array_equal(session.mask(label), mask) for label, mask in enumerate(masks, 1))
    for label in range(2, 8):
        session.remove(label)
    session.add_box(8, [8, 10, 0, 199, 199, 8])
    assert session.mask(8).any() and len(session._found) == 2


def test_masks_that_are_shown_are_never_found_again(
    filler: Segmenter, blank: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are; of those that are not shown the oldest go first."""
    monkeypatch.setattr("edge.serve.session.REMEMBERED_BYTES", 1)
    session = Session(filler, blank)
    for label in (1, 2, 3):
        session.add_box(label, np.array([10 * label, 20, 1, 10 * label + 5, 59, 7]))
        session.label_map()
    monkeypatch.setattr(Session, "_source", lambda *_: pytest.fail("was found again"))
    assert sorted(np.unique(session.label_map())) == [0, 1, 2, 3]


def test_how_sure_the_model_is(filler: Segmenter, blank: Case) -> None:
    """The filler says +1 or -1, never more: no pixel is above 1, so it is not sure of any; of nothing drawn 0."""
    session = Session(filler, blank)
    assert session.stability(1) == 0
    session.add_box(1, [10, 10, 3, 49, 49, 4])
    assert session.stability(1) == 0


@pytest.mark.parametrize("name", ["3DBox_CT_phantom", "2DBox_US_phantom"])
def test_predict_is_as_sure(shipped: Segmenter, name: str) -> None:
    """The same score, over all slices of a box."""
    case = read_case(CASES / f"{name}.npz")
    session = Session(shipped, case)
    session.add_box(1, case.boxes[0])
    score = shipped.segment(replace(case, boxes=case.boxes[:1])).stability
    assert 0.5 < score[0] < 1 and session.stability(1) == pytest.approx(score[0], abs=1e-12)


def test_boxes_that_do_not_fit_are_refused(filler: Segmenter, blank: Case) -> None:
    """As predict refuses them; and nothing of them is kept."""
    session = Session(filler, blank)
    for box, words in (
        ([300, 10, 0, 349, 49, 8], "does not touch the image"),
        ([49, 10, 0, 10, 49, 8], "minimum above its maximum"),
        ([1, 2, 3, 4], "must be"),
        ([[0, 0, 0, 9, 9, 8]] * 2, "one box at a time"),
    ):
        with pytest.raises(CaseError, match=words):
            session.add_box(1, box)
    session.add_box(1, [10, 10, 4, 49, 49, 4])
    with pytest.raises(CaseError, match="along one axis"):
        session.add_box(1, [10, 20, 0, 49, 20, 8])
    with pytest.raises(CaseError, match="1 to 65535, got 0"):
        session.add_box(0, [10, 10, 4, 49, 49, 4])
    assert len(session.objects[1]) == 1 and set(session.objects) == {1}
