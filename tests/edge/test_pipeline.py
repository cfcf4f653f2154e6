"""A case through all stages: labels worked out by hand with a model that answers +1 inside its box, -1 outside."""

from pathlib import Path

import numpy as np
import pytest

from edge.choices import FIXED, METHODS
from edge.data.case import make_case
from edge.engines.model_folder import ModelDescription
from edge.engines.runtime import Engine, load_engine
from edge.errors import RunError
from edge.pipeline import STAGES, Options, segment


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Engine:
    return load_engine(tiny_model)


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def volume(depth: int, side: int = 256) -> np.ndarray:
    """Slices all alike: nothing moves."""
    return np.tile(np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8), (depth, 1, 1))


def filled(shape: tuple[int, ...], *boxes: tuple[int, int, int, int], labels: tuple[int, ...] = (1,)) -> np.ndarray:
    """A label map with boxes (inclusive) painted one over the other."""
    painted = np.zeros(shape, np.uint8)
    for label, (x_min, y_min, x_max, y_max) in zip(labels, boxes, strict=True):
        painted[y_min : y_max + 1, x_min : x_max + 1] = label
    return painted


def test_a_box_is_its_own_mask_at_the_size_of_the_frame(engine: Engine) -> None:
    """256 x 256, nothing is scaled: the box's pixels, its far side included."""
    case = make_case("2DBox_US_1", image(256, 256), np.array([[30, 40, 99, 59]]))
    result = segment(case, engine)
    assert np.array_equal(result.labels, filled((256, 256), (30, 40, 99, 59)))
    assert (result.name, result.slices, result.boxes, result.labels.dtype) == ("2DBox_US_1", 1, 1, np.uint8)


def test_a_box_of_a_larger_image_comes_back_to_the_pixel(engine: Engine) -> None:
    """512 px: 100 to 199 is 50 to 99 in the letterbox; halfway to -1 lies between 199 and 200."""
    case = make_case("2DBox_US_1", image(384, 512), np.array([[100, 200, 199, 299]]))
    assert np.array_equal(segment(case, engine).labels, filled((384, 512), (100, 200, 199, 299)))


def test_the_baseline_cuts_boxes_to_whole_pixels(engine: Engine) -> None:
    """Box 101 to 201 of 512 px: 50.5 to 100 holds pixels 51 to 100; cut to 50 to 100 it holds one more."""
    case = make_case("2DBox_US_1", image(512, 512), np.array([[101, 101, 201, 201]]))
    assert np.array_equal(segment(case, engine).labels, filled((512, 512), (102, 102, 201, 201)))
    baseline = segment(case, engine, Options(method="baseline")).labels
    assert np.array_equal(baseline, filled((512, 512), (100, 100, 201, 201)))


def test_overlap_goes_to_the_first_box_and_in_the_baseline_to_the_last(engine: Engine) -> None:
    """Both answer +1: a tie, which the lower label wins; the baseline paints over."""
    boxes = [(10, 10, 60, 60), (40, 40, 90, 90)]
    case = make_case("2DBox_US_1", image(256, 256), np.array(boxes))
    assert np.array_equal(segment(case, engine).labels, filled((256, 256), *boxes[::-1], labels=(2, 1)))
    baseline = segment(case, engine, Options(method="baseline")).labels
    assert np.array_equal(baseline, filled((256, 256), *boxes, labels=(1, 2)))


@pytest.mark.parametrize("inner", [1, 2])
def test_a_nested_box_wins_whichever_comes_first(engine: Engine, inner: int) -> None:
    """Both answer +1: argmax alone would give the overlap to label 1, the baseline to label 2."""
    boxes = [(10, 10, 109, 109), (40, 40, 60, 60)]
    labels = (3 - inner, inner)
    case = make_case("2DBox_US_1", image(256, 256), np.array(boxes if inner == 2 else boxes[::-1]))
    assert np.array_equal(segment(case, engine).labels, filled((256, 256), *boxes, labels=labels))


class Everywhere:
    """Finds the object everywhere, whatever it is asked."""

    backend, precision, threads = "none", "f32", 1

    def __init__(self, **fields: object) -> None:
        self.description = ModelDescription("everywhere", 256, (1, 64, 64), {}, {}, **fields)

    def prepare(self, batches: dict[int, int]) -> None:
        pass

    def encode(self, images: np.ndarray) -> np.ndarray:
        return images[:, :1, ::4, ::4]

    def decode(self, embedding: np.ndarray, boxes: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
        return np.ones((len(boxes), 4 * embedding.shape[-1], 4 * embedding.shape[-1]), np.float32)


def test_labels_of_an_image_stay_within_their_box_but_not_in_the_baseline() -> None:
    """All of a box, its last pixel included, and nothing beside it; in the baseline all of the image."""
    case = make_case("2DBox_US_1", image(384, 512), np.array([[100, 200, 198, 298]]))
    for method in ("auto", "tracked", "propagated", "fixed"):
        labels = segment(case, Everywhere(), Options(method=method)).labels
        assert np.array_equal(labels, filled((384, 512), (100, 200, 198, 298)))
    assert segment(case, Everywhere(), Options(method="baseline")).labels.all()


def test_labels_of_a_volume_stay_within_the_tracked_box_but_not_when_propagated() -> None:
    """On the middle slice the box is the given one; from there on a mask may go wherever it is found."""
    case = make_case("3DBox_CT_1", volume(3, 512), np.array([[100, 200, 0, 198, 298, 2]]))
    box = filled((512, 512), (100, 200, 198, 298))
    tracked, propagated, fixed, baseline = (
        segment(case, Everywhere(), Options(method=method)).labels
        for method in ("tracked", "propagated", "fixed", "baseline")
    )
    assert np.array_equal(tracked[1], box) and np.array_equal(propagated[1], box) and np.array_equal(fixed, [box] * 3)
    for z in (0, 2):
        assert 0 < tracked[z].sum() < box.sum() and not tracked[z][box == 0].any()
        assert propagated[z].all()
    assert baseline.all()


def test_a_baseline_volume_is_walked_from_the_middle_and_widened_by_three_a_slice(engine: Engine) -> None:
    """Slices 1 to 4 of 6, middle 2: 50 to 80 there, 47 to 83 on 1 and 3, 44 to 86 on 4, nothing on 0 and 5."""
    case = make_case("3DBox_CT_1", volume(6), np.array([[50, 60, 1, 80, 90, 4]]))
    expected = np.zeros((6, 256, 256), np.uint8)
    for z, margin in ((1, 3), (2, 0), (3, 3), (4, 6)):
        expected[z] = filled((256, 256), (50 - margin, 60 - margin, 80 + margin, 90 + margin))
    result = segment(case, engine, Options(method="baseline"))
    assert np.array_equal(result.labels, expected)
    assert (result.slices, result.boxes) == (4, 1)


def test_a_mask_that_propagates_is_the_next_prompt_as_it_is(engine: Engine) -> None:
    """The filled box of the middle slice on every slice of its range, 1 to 4 of 6: nothing is widened."""
    case = make_case("3DBox_CT_1", volume(6), np.array([[50, 60, 1, 80, 90, 4]]))
    result = segment(case, engine, Options(method="propagated"))
    assert np.array_equal(result.labels[1:5], [filled((256, 256), (50, 60, 80, 90))] * 4)
    assert not result.labels[[0, 5]].any() and (result.slices, result.boxes) == (4, 1)


def test_a_box_is_tracked_unless_told_otherwise_and_propagates_in_the_baseline(engine: Engine) -> None:
    """Slices 0 to 4 of a box 41 px wide, nothing moves: an ellipsoid's 0.6 of it, so sqrt(0.6), is left at the ends.

    20.5 px * 0.775 = 15.9 px around the pixel 70: 54.6 to 85.4.
    """
    case = make_case("3DBox_CT_1", volume(5), np.array([[50, 60, 0, 90, 100, 4]]))
    labels = segment(case, engine).labels
    assert np.array_equal(labels[2], filled((256, 256), (50, 60, 90, 100)))
    for z in (0, 4):
        assert np.array_equal(labels[z], filled((256, 256), (55, 65, 85, 95)))
    baseline = segment(case, engine, Options(method="baseline")).labels
    assert np.array_equal(baseline[4], filled((256, 256), (44, 54, 96, 106)))


def test_auto_tracks_boxes_of_volumes(engine: Engine) -> None:
    """Where nothing is known of the modality: the same labels by either name, and other ones than by the rest."""
    case = make_case("3DBox_CT_1", volume(5), np.array([[50, 60, 0, 90, 100, 4], [101, 20, 1, 130, 60, 4]]))
    labels = {method: segment(case, engine, Options(method=method)).labels.tobytes() for method in (*METHODS, FIXED)}
    assert labels["auto"] == labels["tracked"] == segment(case, engine).labels.tobytes()
    assert labels["tracked"] not in {labels[method] for method in ("propagated", "fixed", "baseline")}
    assert labels["baseline"] != labels["propagated"]


@pytest.mark.parametrize("best", ["tracked", "propagated", "baseline"])
def test_auto_takes_what_validated_best_on_volumes_of_the_modality(best: str) -> None:
    """By the model folder's numbers; of another modality and of a picture nothing is known, and boxes bound labels."""
    scores = {method: 0.9 if method == best else 0.8 for method in ("tracked", "propagated", "baseline")}
    engine = Everywhere(methods={"CT": scores})
    box = np.array([[10, 10, 0, 19, 19, 2]])
    ct, mr = (make_case(f"3DBox_{modality}_1", volume(3, 64), box) for modality in ("CT", "MR"))
    by_name = {method: segment(ct, engine, Options(method=method)).labels for method in scores}
    assert np.array_equal(segment(ct, engine).labels, by_name[best])
    assert len({labels.tobytes() for labels in by_name.values()}) == 3
    assert np.array_equal(segment(mr, engine).labels, by_name["tracked"])
    picture = make_case("2DBox_CT_1", image(64, 64), np.array([[10, 10, 19, 19]]))
    assert np.array_equal(segment(picture, engine).labels, filled((64, 64), (10, 10, 19, 19)))


def test_fixed_takes_the_box_as_it_is_on_every_slice(engine: Engine) -> None:
    """Two boxes, two ranges, both ends included."""
    boxes = np.array([[50, 60, 1, 80, 90, 4], [100, 60, 4, 120, 90, 5]])
    result = segment(make_case("3DBox_CT_1", volume(6), boxes), engine, Options(method="fixed"))
    expected = np.zeros((6, 256, 256), np.uint8)
    expected[1:5, 60:91, 50:81] = 1
    expected[4:6, 60:91, 100:121] = 2
    assert np.array_equal(result.labels, expected)
    assert result.slices == 5


@pytest.mark.parametrize("z", [0, 2])
def test_an_object_of_one_slice_is_segmented(engine: Engine, z: int) -> None:
    """Where the public baseline stops the whole run."""
    result = segment(make_case("3DBox_CT_1", volume(3), np.array([[50, 60, z, 80, 90, z]])), engine)
    assert np.array_equal(np.flatnonzero(result.labels.any(axis=(1, 2))), [z])
    assert np.array_equal(result.labels[z], filled((256, 256), (50, 60, 80, 90)))


@pytest.mark.parametrize("method", [*METHODS, FIXED])
def test_block_and_budget_change_nothing(engine: Engine, method: str) -> None:
    """Twelve boxes over nine slices, boxes decoded one by one or together, embeddings kept or made again."""
    rng = np.random.default_rng(1)
    low = rng.integers(0, (150, 150, 5), (12, 3))
    boxes = np.concatenate([low, low + rng.integers(0, (40, 40, 5), (12, 3))], axis=1)
    case = make_case("3DBox_MR_1", volume(9, 200), boxes)
    base = segment(case, engine, Options(method=method)).labels
    assert set(np.unique(base)) >= {0, 1, 6}
    for options in (Options(method, block=1), Options(method, block=5), Options(method, embedding_budget_mib=0)):
        assert np.array_equal(segment(case, engine, options).labels, base)


def test_no_boxes_give_background(engine: Engine) -> None:
    """2D and 3D, and nothing is encoded in vain in 3D."""
    assert not segment(make_case("2DBox_US_1", image(30, 40), np.zeros((0, 4))), engine).labels.any()
    result = segment(make_case("3DBox_CT_1", volume(3), np.zeros((0, 6))), engine)
    assert result.labels.shape == (3, 256, 256) and not result.labels.any() and result.slices == 0


def test_more_than_255_boxes_keep_their_labels(engine: Engine) -> None:
    """300 boxes of one pixel each: the last is 300, in 16 bits, with the baseline's rules too."""
    places = [(2 * (k % 100), 50 * (k // 100)) for k in range(300)]
    boxes = np.array([(x, y, x, y) for x, y in places])
    case = make_case("2DBox_Microscopy_1", image(256, 256), boxes)
    for method in ("auto", "baseline"):
        labels = segment(case, engine, Options(method=method)).labels
        assert labels.dtype == np.uint16
        assert [labels[y, x] for x, y in places] == list(range(1, 301))


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (1, 1), (2, 900)])
def test_images_of_a_pixel_or_two_go_through(engine: Engine, shape: tuple[int, int]) -> None:
    """A box over all of it is all of it, also where a row of the letterbox holds more than one of the image."""
    height, width = shape
    case = make_case("2DBox_US_1", image(height, width), np.array([[0, 0, width, height]]))
    assert segment(case, Everywhere()).labels.all()
    assert segment(case, engine, Options(method="baseline")).labels.all()


def test_every_stage_is_timed_in_order(engine: Engine) -> None:
    """Seconds per stage, none negative."""
    seconds = segment(make_case("2DBox_US_1", image(64, 64), np.array([[3, 3, 40, 40]])), engine).stage_s
    assert tuple(seconds) == STAGES
    assert all(value > 0 for value in seconds.values())


class DotEngine:
    """Finds, whatever it is asked, one pixel of a 512 px original; remembers the boxes it was given.

    In the frame it is one cell at +7 among -10, the cell beyond its corner at -1. Restored, the quarter of the cell
    towards that corner is 0.5625 * 7 - 0.375 * 10 - 0.0625 * 1 = 0.125, the other three quarters are negative.
    """

    description = ModelDescription("dot", 256, (1, 1, 1), {}, {})
    backend, precision, threads = "none", "f32", 1

    def __init__(self) -> None:
        self.boxes: list[list[list[float]]] = []

    def prepare(self, batches: dict[int, int]) -> None:
        pass

    def encode(self, images: np.ndarray) -> np.ndarray:
        return np.zeros((len(images), 1, 1, 1), np.float32)

    def decode(self, embedding: np.ndarray, boxes: np.ndarray, within: np.ndarray | None = None) -> np.ndarray:
        self.boxes.append(boxes.tolist())
        logits = np.full((len(boxes), 256, 256), -10, np.float32)
        logits[:, 100, 70], logits[:, 101, 71] = 7, -1
        return logits


def test_the_baselines_prompts_carry_the_label_through_area_averaging() -> None:
    """One pixel of four: label 1 averages to 0.25, nothing, and the box is asked again; label 2 to 0.5, which is 1."""
    boxes = np.array([[20, 20, 0, 40, 40, 2], [60, 60, 0, 80, 80, 2]])
    case = make_case("3DBox_CT_1", volume(3, 512), boxes)
    engine = DotEngine()
    labels = segment(case, engine, Options(method="baseline")).labels
    assert np.array_equal(np.argwhere(labels), [[z, 201, 141] for z in range(3)])
    first, second, around_dot = [10, 10, 20, 20], [30, 30, 40, 40], [67, 97, 73, 103]
    assert engine.boxes == [[first, second], [first, around_dot], [first, around_dot]]


def test_what_another_box_takes_of_a_mask_does_not_travel_on() -> None:
    """Both find one pixel of four, which the nested box gets: it goes on, the outer box is asked for again."""
    boxes = np.array([[120, 180, 0, 159, 219, 2], [130, 190, 0, 149, 209, 2]])
    engine = DotEngine()
    segment(make_case("3DBox_CT_1", volume(3, 512), boxes), engine, Options(method="propagated"))
    own, dot = [[60, 90, 79, 109], [65, 95, 74, 104]], [70.5, 100.5, 70, 100]  # of pixel 141, 201
    assert engine.boxes == [own, [own[0], dot], [own[0], dot]]


def test_propagated_prompts_do_not_depend_on_the_label() -> None:
    """One pixel of four prompts as it is, half a pixel of the letterbox, alone or for the second of two boxes."""
    engine = DotEngine()
    boxes = np.array([[0, 0, 2, 9, 9, 2], [120, 180, 0, 159, 219, 1]])
    segment(make_case("3DBox_CT_1", volume(3, 512), boxes), engine, Options(method="propagated"))
    dot = [70.5, 100.5, 70, 100]  # of pixel 141, 201
    assert engine.boxes == [[[60, 90, 79, 109]], [[0, 0, 4, 4]], [dot]]


def test_what_lies_beyond_the_box_on_its_middle_slice_does_not_travel() -> None:
    """The dot is no part of these boxes, and is found nowhere: they are asked for again, and bound what is found."""
    boxes = np.array([[20, 20, 0, 39, 39, 2], [60, 60, 0, 79, 79, 2]])
    engine = DotEngine()
    labels = segment(make_case("3DBox_CT_1", volume(3, 512), boxes), engine, Options(method="propagated")).labels
    assert engine.boxes == [[[10, 10, 19, 19], [30, 30, 39, 39]]] * 3 and not labels.any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "quick"}, "method must be one of auto, tracked, propagated, baseline, got 'quick'"),
        ({"block": 0}, "block must be at least 1, got 0"),
        ({"block": -1}, "block must be at least 1, got -1"),
        ({"box_margin_px": -1}, "box_margin_px must be at least 0, got -1"),
        ({"box_margin_px": float("nan")}, "box_margin_px must be at least 0, got nan"),
    ],
)
def test_options_that_do_not_exist_are_refused(wrong: dict, message: str) -> None:
    """Before anything is loaded or computed."""
    with pytest.raises(RunError) as caught:
        Options(**wrong)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("depth", "method", "expected"),
    [(3, "propagated", {56: 1, 112: 1}), (3, "tracked", {112: 1}), (1, "propagated", {112: 1})],
)
def test_what_a_case_needs_is_loaded_before_its_first_view(depth: int, method: str, expected: dict[int, int]) -> None:
    """A box for views of 112 px; a mask that travels from it is shown 56 at most, where there is a slice to go to."""
    engine = Everywhere(views={"sizes": [56, 112], "box_share": 0.7, "least_scale": 1, "walk_size": 56})
    done: list[object] = []
    encode = engine.encode
    engine.prepare = done.append  # type: ignore[method-assign]
    engine.encode = lambda images: done.append("encoded") or encode(images)  # type: ignore[method-assign]
    box = np.array([[50, 50, 0, 119, 119, depth - 1]])
    segment(make_case("3DBox_CT_1", volume(depth, 200), box), engine, Options(method=method))
    assert done[:2] == [expected, "encoded"]
