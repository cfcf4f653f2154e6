"""Phantoms: every modality, boxes that follow from the truth, the same bytes again, and the committed set."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from edge.choices import MODALITIES
from edge.data.case import Case, read_case
from edge.data.npz import read_npz
from edge.data.phantom import SUITES, make_phantom, make_suite
from edge.data.phantom.shapes import Blob, Texture, noise, soft
from edge.errors import RunError

CASES = Path(__file__).parents[2] / "cases"
ROUND = Blob(center=(4, 10, 20), radii=(5, 6, 6), axis=(1, 0), lean=(0, 0), waves=())


def assert_boxes_follow_from_truth(case: Case) -> None:
    truth = case.truth if case.is_volume else case.truth[None]
    height, width = truth.shape[1:]
    assert truth.max(initial=0) == len(case.boxes)
    for label, box in enumerate(case.boxes.astype(int), start=1):
        slices = np.flatnonzero((truth == label).any((1, 2)))
        middle = int((slices[-1] - slices[0]) / 2 + slices[0])
        ys, xs = np.nonzero(truth[middle] == label)
        low, high = box[:2], box[-3:-1] if case.is_volume else box[2:]
        if case.is_volume:
            assert (box[2], box[5]) == (slices[0], slices[-1])
        for tight, grown in ((xs.min(), low[0]), (ys.min(), low[1]), (high[0], xs.max()), (high[1], ys.max())):
            assert 0 <= tight - grown <= 5
        assert low.min() >= 0 and high[0] < width and high[1] < height


def test_a_blob_without_waves_is_a_ball() -> None:
    """Depth is radius minus distance in the middle slice; three fifths out along z, four fifths of it are left."""
    ys, xs = np.arange(20, dtype=np.float32), np.arange(40, dtype=np.float32)
    middle = ROUND.depth_px(4, ys, xs)
    assert middle[10, 20] == 6 and middle[10, 26] == 0 and middle[4, 20] == 0
    assert middle[13, 24] == pytest.approx(1)  # 3-4-5 triangle
    assert ROUND.depth_px(7, ys, xs)[10, 20] == pytest.approx(4.8)
    assert not (ROUND.depth_px(9, ys, xs) > 0).any()


def test_a_wave_of_order_two_makes_the_outline_long_one_way_and_short_the_other() -> None:
    """cos 2a is 1 along x and -1 along y: a tenth longer and a tenth shorter."""
    blob = Blob((0, 0, 0), (1, 10, 10), (1, 0), (0, 0), ((0.1, 0.0),))
    depth_px = blob.depth_px(0, np.array([0, 9], np.float32), np.array([0, 11], np.float32))
    assert depth_px[0, 1] == pytest.approx(0, abs=1e-5) and depth_px[1, 0] == pytest.approx(0, abs=1e-5)


def test_a_soft_edge_is_one_half_on_the_outline() -> None:
    """Truth and picture agree on where an object ends."""
    np.testing.assert_allclose(soft(np.array([-2, -1, 0, 1, 2], np.float32), 2.0), [0, 0.15625, 0.5, 0.84375, 1])


def test_drawing_stays_in_float32() -> None:
    """NumPy 1 and 2 promote scalars differently; a float64 on the way would make their bytes differ."""
    rng = np.random.Generator(np.random.PCG64(0))
    ys = np.arange(8, dtype=np.float32)
    texture = Texture(rng, (3, 8, 8), 4.0).sample(1, ys, ys)
    assert {array.dtype for array in (texture, noise(rng, (2, 2)), ROUND.depth_px(4, ys, ys))} == {np.dtype("f4")}


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_modality_has_a_2d_phantom_with_contrast(modality: str) -> None:
    """All eleven names of the challenge; objects differ from what surrounds them."""
    case = make_phantom(f"2DBox_{modality}_0001", (120, 90), 3, 7)
    assert case.image.shape == (120, 90, 3) and case.truth.shape == (120, 90) and case.spacing_mm is None
    assert_boxes_follow_from_truth(case)
    for label, box in enumerate(case.boxes.astype(int), start=1):
        inside = slice(box[1], box[3] + 1), slice(box[0], box[2] + 1)
        picture, own = case.image[inside].mean(axis=-1), case.truth[inside] == label
        assert abs(picture[own].mean() - picture[~own].mean()) > 10


@pytest.mark.parametrize("modality", ["CT", "MR", "PET"])
def test_volumes_have_spacing_and_boxes_of_their_middle_slice(modality: str) -> None:
    """x and y from slice int((z_max - z_min) / 2 + z_min), z inclusive at both ends."""
    case = make_phantom(f"3DBox_{modality}_0001", (17, 60, 72), 4, 1)
    assert case.image.shape == case.truth.shape == (17, 60, 72) and case.spacing_mm is not None
    assert_boxes_follow_from_truth(case)


def test_crowded_and_tiny_phantoms_keep_every_object() -> None:
    """No object is lost under another, whatever the seed: a label without a pixel would have no score."""
    for seed in range(30):
        assert_boxes_follow_from_truth(make_phantom("2DBox_Microscopy_x", (36, 41), 80, seed))
        assert_boxes_follow_from_truth(make_phantom("3DBox_MR_x", (6, 16, 20), 9, seed))
        assert_boxes_follow_from_truth(make_phantom("3DBox_CT_x", (1, 4, 4), 1, seed))


def test_more_than_255_objects_have_uint16_labels() -> None:
    """uint8 would wrap."""
    case = make_phantom("2DBox_Microscopy_x", (128, 128), 300, 0)
    assert case.truth.dtype == np.uint16 and case.truth.max() == 300


def test_no_object_is_a_phantom_too() -> None:
    """An empty box list keeps its columns."""
    assert make_phantom("3DBox_CT_x", (3, 20, 20), 0, 0).boxes.shape == (0, 6)


def test_bytes_do_not_change_between_releases_and_machines() -> None:
    """The hash was written down once; NumPy 1.26 and 2.4, with and without AVX2, give it."""
    digest = hashlib.sha256()
    for name, shape in (("2DBox_Fundus_x", (300, 64)), ("3DBox_MR_x", (4, 48, 40))):
        case = make_phantom(name, shape, 2, 3)
        digest.update(case.image.tobytes() + case.truth.tobytes() + case.boxes.tobytes())
    assert digest.hexdigest()[:16] == "c1d681b4701a59d5"


def test_names_and_seeds_give_different_phantoms() -> None:
    """A suite is not the same picture many times."""
    images = [
        make_phantom(f"2DBox_US_{name}", (40, 40), 1, seed).image for name, seed in (("a", 0), ("b", 0), ("a", 1))
    ]
    assert len({image.tobytes() for image in images}) == 3


@pytest.mark.parametrize(
    ("name", "shape", "objects", "seed", "message"),
    [
        ("2DBox_Photo_1", (9, 9), 1, 0, "no modality in this name"),
        ("2DBox_CT_1", (9, 9, 9), 1, 0, "must start with 3DBox_"),
        ("3DBox_US_1", (9, 9, 9), 1, 0, "volumes are CT, MR, PET"),
        ("2DBox_CT_1", (9,), 1, 0, "H,W or D,H,W, each 1 or more, got 9"),
        ("2DBox_CT_1", (9, 0), 1, 0, "each 1 or more, got 9,0"),
        ("2DBox_CT_1", (9, 9), -1, 0, "objects must be 0 to 65535, got -1"),
        ("2DBox_CT_1", (9, 9), 1, -1, "seed must be 0 or more, got -1"),
        ("2DBox_CT_1", (9, 9), 5, 0, "no room for 5 objects in 9 x 9 px"),
    ],
)
def test_what_cannot_be_made_is_said(name: str, shape: tuple[int, ...], objects: int, seed: int, message: str) -> None:
    """One line that names the case and the cure."""
    with pytest.raises(RunError, match=rf"^{name}: .*{re.escape(message)}"):
        make_phantom(name, shape, objects, seed)


def test_the_small_suite_is_the_committed_set(tmp_path: Path) -> None:
    """cases/ holds what its README's command makes: no case more or less, arrays equal, under 2 MB in all."""
    paths = list(make_suite("small", tmp_path, seed=0))
    assert [path.stem for path in paths] == list(SUITES["small"])
    assert {path.name for path in paths} == {path.name for path in CASES.glob("*.npz")}
    assert sum(path.stat().st_size for path in CASES.glob("*.npz")) < 2_000_000
    for path in paths:
        made, committed = (read_npz(p, ["imgs", "boxes", "gts", "spacing"]) for p in (path, CASES / path.name))
        assert made.keys() == committed.keys()
        for key in made:
            assert made[key].dtype == committed[key].dtype
            np.testing.assert_array_equal(made[key], committed[key], err_msg=f"{path.stem}: {key}")


def test_making_a_suite_again_gives_identical_bytes(tmp_path: Path) -> None:
    """Files can be compared by their hash."""
    first, second = (list(make_suite("small", tmp_path / name, seed=5)) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_readme_lists_the_committed_set() -> None:
    """Its table is the suite's."""
    rows = re.findall(r"^\| (\S+phantom\S*) \| ([\d x]+) \| (\d+) \|$", (CASES / "README.md").read_text(), re.MULTILINE)
    expected = [(name, " x ".join(map(str, shape)), str(objects)) for name, (shape, objects) in SUITES["small"].items()]
    assert rows == expected


def test_table4_names_the_published_cases_and_can_be_cut_in_depth(tmp_path: Path) -> None:
    """max_depth shortens volumes only; files appear one by one under the published names."""
    assert len(SUITES["table4"]) == 14 and SUITES["table4"]["3DBox_CT_0566"] == ((287, 512, 512), 6)
    made = make_suite("table4", tmp_path, seed=0, max_depth=2)
    case = read_case(next(made), with_truth=True)
    assert case.name == "3DBox_CT_0566" and case.shape == (2, 512, 512)
    assert [path.name for path in tmp_path.iterdir()] == ["3DBox_CT_0566.npz"]


def test_an_unknown_suite_and_a_file_in_the_way_are_said(tmp_path: Path) -> None:
    """Both before anything is drawn."""
    with pytest.raises(RunError, match="no suite 'tiny'; choose one of small, table4"):
        next(make_suite("tiny", tmp_path, 0))
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot make this folder"):
        next(make_suite("small", tmp_path / "file", 0))
