"""What counts as a case: every form that public files come in, and names in every public spelling."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.choices import MODALITIES
from edge.data.case import find_cases, make_case, read_case, read_labels, write_case
from edge.data.modality import UNKNOWN, dataset_in_name, modality_of
from edge.errors import CaseError

IMAGE = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
VOLUME = np.arange(5 * 20 * 30, dtype=np.uint8).reshape(5, 20, 30)
BOX = [[2, 3, 10, 12]]
BOX_3D = [[2, 3, 1, 10, 12, 3]]
DTYPES = ["u1", "<u2", ">i2", "<i8", "<f2", ">f4", "<f8"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_boxes_of_any_numeric_type_are_the_same_boxes(dtype: str) -> None:
    """The challenge never states their type."""
    case = make_case("2DBox_CT_1", IMAGE, np.array(BOX, dtype))
    assert case.boxes.dtype == np.float64
    assert case.boxes.tolist() == BOX


def test_fractions_of_boxes_are_kept() -> None:
    """A box is not rounded before it is in the model frame."""
    assert make_case("2DBox_CT_1", IMAGE, np.array([[2.25, 3.5, 10.75, 12]])).boxes.tolist() == [[2.25, 3.5, 10.75, 12]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_images_of_any_numeric_type_become_uint8(dtype: str) -> None:
    """Big-endian and float included, as long as values lie in 0 to 255."""
    values = np.minimum(IMAGE, 127)
    case = make_case("2DBox_CT_1", values.astype(dtype), np.array(BOX))
    assert case.image.dtype == np.uint8
    assert np.array_equal(case.image, values)


def test_fractional_intensities_are_rounded_to_the_nearest() -> None:
    """Not cut, which would darken the image by half a step."""
    assert make_case("2DBox_CT_1", np.full((2, 2, 3), 6.7), np.array([[0, 0, 1, 1]])).image.max() == 7


@pytest.mark.parametrize(
    ("name", "image", "shape"),
    [
        ("2DBox_CT_1", IMAGE, (20, 30)),
        ("2DBox_CT_grey", IMAGE[..., 0], (20, 30)),
        ("2DBox_CT_one-channel", IMAGE[..., :1], (20, 30)),
        ("2DBox_CT_fortran", np.asfortranarray(IMAGE), (20, 30)),
        ("2DBox_CT_pixel", IMAGE[:1, :1], (1, 1)),
        ("2DBox_CT_row", IMAGE[:1], (1, 30)),
        ("2DBox_CT_column", IMAGE[:, :1], (20, 1)),
        ("3DBox_CT_1", VOLUME, (5, 20, 30)),
        ("3DBox_CT_one-channel", VOLUME[..., None], (5, 20, 30)),
        ("3DBox_CT_slice", VOLUME[:1], (1, 20, 30)),
        ("3DBox_CT_three-wide", VOLUME[..., :3], (5, 20, 3)),
    ],
)
def test_images_in_every_layout_are_understood(name: str, image: npt.NDArray, shape: tuple[int, ...]) -> None:
    """Greyscale becomes RGB, a channel of one is dropped from a volume; the name decides about (5, 20, 3)."""
    case = make_case(name, image, np.zeros((0, 4)))
    assert case.shape == shape
    assert case.is_volume == (len(shape) == 3)
    expected = image.reshape(shape) if case.is_volume else np.broadcast_to(image.reshape(*shape, -1), (*shape, 3))
    assert np.array_equal(case.image, expected)


@pytest.mark.parametrize("boxes", [np.zeros(0), np.zeros((0, 4)), np.zeros((0, 6)), np.zeros((1, 0)), np.array([])])
def test_no_boxes_in_any_form_are_no_boxes(boxes: npt.NDArray) -> None:
    """Also with the columns of the other kind."""
    assert make_case("2DBox_CT_1", IMAGE, boxes).boxes.shape == (0, 4)
    assert make_case("3DBox_CT_1", VOLUME, boxes).boxes.shape == (0, 6)


def test_one_box_without_its_row_axis_is_one_box() -> None:
    """`boxes` of shape (4,) or (6,)."""
    assert make_case("2DBox_CT_1", IMAGE, np.array(BOX[0])).boxes.tolist() == BOX
    assert make_case("3DBox_CT_1", VOLUME, np.array(BOX_3D[0])).boxes.tolist() == BOX_3D


def test_fractions_from_0_to_1_are_stretched_with_a_note() -> None:
    """Float or bool, images and volumes; whole numbers of 0 and 1 are greys as they stand, and so is darkness."""
    half = np.linspace(0, 1, IMAGE.size).reshape(IMAGE.shape)
    for image in (half, half.astype(np.float16), half > 0.5):
        case = make_case("2DBox_CT_1", image, np.array(BOX))
        assert str(case.notes[0]).startswith(f"imgs lies in 0 to 1 and is stretched to 0 to 255 ({image.dtype}, 0 to 1")
        assert (case.image.min(), case.image.max()) == (0, 255)
        assert np.abs(case.image - 255 * image.astype(np.float64)).max() <= 0.6
    volume = make_case("3DBox_CT_1", np.repeat(half[None, ..., 0], 5, axis=0) * 0.5, np.array(BOX_3D))
    assert volume.image.max() == 127 and len(volume.notes) == 1
    assert make_case("2DBox_CT_1", np.full((20, 30), 0.5), np.array(BOX)).image.max() == 128  # the same everywhere
    for image in (IMAGE % 2, (IMAGE % 2).astype(np.int64), np.zeros(IMAGE.shape), np.full(IMAGE.shape, 7.5)):
        assert make_case("2DBox_CT_1", image, np.array(BOX)).notes == ()


@pytest.mark.parametrize(("top", "told"), [(1.03, True), (9.5, True), (254.5, False)])
def test_fractions_that_rounding_would_hide_are_told(top: float, told: bool) -> None:
    """As a resampling that overshoots leaves them; whole numbers lose nothing."""
    image = np.linspace(0, top, IMAGE.size).reshape(IMAGE.shape)
    case = make_case("2DBox_CT_1", image, np.array(BOX))
    assert [str(note).split(";")[0] for note in case.notes] == ["imgs is rounded to a few greys"] * told
    assert case.image.max() == np.rint(top)
    assert make_case("2DBox_CT_1", np.rint(image), np.array(BOX)).notes == () or top < 1.5


@pytest.mark.parametrize(
    "spacing",
    [np.ones(2), np.array(None), np.zeros(3), np.array([1, np.nan, 1]), np.array(["1", "1", "1"]), -np.ones(3)],
)
def test_spacing_that_cannot_be_used_is_left_out_with_a_note(tmp_path: Path, spacing: npt.NDArray) -> None:
    """Masks do not use it. None is saved as a pickle, which is not loaded."""
    np.savez(tmp_path / "3DBox_CT_1.npz", imgs=VOLUME, boxes=BOX_3D, spacing=spacing, gts=VOLUME % 2)
    case = read_case(tmp_path / "3DBox_CT_1.npz")
    (note,) = case.notes
    assert str(note).startswith("spacing must be 3 positive numbers (x, y, z) in mm and is left out") and note.got
    assert case.spacing_mm is None
    assert read_labels(tmp_path / "3DBox_CT_1.npz", "gts")[1] is None
    assert len(make_case("3DBox_CT_1", VOLUME, np.array(BOX_3D), spacing).notes) == 1


def test_boxes_at_and_over_the_border_end_there() -> None:
    """x_max = W is kept, as public cases use it; what lies beyond is cut off; z ends at the last slice."""
    case = make_case("2DBox_CT_1", IMAGE, np.array([[0, 0, 30, 20], [-5, -1, 35, 25], [29, 19, 30, 20]]))
    assert case.boxes.tolist() == [[0, 0, 30, 20], [0, 0, 30, 20], [29, 19, 30, 20]]
    assert make_case("3DBox_CT_1", VOLUME, np.array([[0, 0, -1, 30, 20, 5]])).boxes.tolist() == [[0, 0, 0, 30, 20, 4]]


@pytest.mark.parametrize(
    "box", [[30, 0, 40, 5], [-5, 0, -1, 5], [0, 20, 5, 25], [0, 0, 61, 5], [0, 0, 1e9, 5], [0, np.nan, 5, 5]]
)
def test_boxes_that_cannot_be_of_this_image_are_refused(box: list[float]) -> None:
    """Beside it, or reaching more than its size past it; the row is named."""
    with pytest.raises(CaseError, match=r"^2DBox_CT_1: boxes (row 1 .* of shape \(20, 30\)|must be finite)"):
        make_case("2DBox_CT_1", IMAGE, np.array([*BOX, box]))


@pytest.mark.parametrize(
    ("boxes", "image", "is_volume"),
    [(BOX, IMAGE, False), (BOX_3D, VOLUME, True), ([], IMAGE, False), ([], VOLUME, True)],
)
def test_without_a_prefix_boxes_decide_then_the_image(boxes: list, image: npt.NDArray, is_volume: bool) -> None:
    """Arrays given from Python carry no challenge name."""
    assert make_case("image", image, np.array(boxes)).is_volume == is_volume


@pytest.mark.parametrize("name", ["2DBox_CT_1", "3DBox_CT_1"])
def test_a_case_survives_its_file(tmp_path: Path, name: str) -> None:
    """Image, boxes, truth, and spacing turned to file order and back."""
    is_volume = name.startswith("3D")
    image, boxes = (VOLUME, BOX_3D) if is_volume else (IMAGE, BOX)
    truth = (image if is_volume else image[..., 0]) % 2
    case = make_case(name, image, np.array(boxes), np.array([0.5, 0.75, 3]), truth)
    write_case(tmp_path / f"{name}.npz", case)
    read = read_case(tmp_path / f"{name}.npz", with_truth=True)
    assert read.spacing_mm == (3, 0.75, 0.5)
    for key in ("name", "image", "boxes", "truth"):
        assert np.array_equal(getattr(read, key), getattr(case, key))
    with np.load(tmp_path / f"{name}.npz") as file:
        assert file["spacing"].tolist() == [0.5, 0.75, 3]
        assert file["boxes"].dtype == np.int64
    assert read_case(tmp_path / f"{name}.npz").truth is None


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.full((20, 30), 0.5), "whole numbers, got float64"),
        (np.full((20, 30), np.nan), "whole numbers"),
        (np.full((20, 30), -1), "0 to 65535, got -1 to -1"),
        (np.full((20, 30), 70000), "0 to 65535, got 70000"),
        (np.zeros((30, 20)), r"shape \(20, 30\), got \(30, 20\)"),
        (np.zeros((20, 30), complex), "whole numbers, got complex128"),
    ],
)
def test_a_truth_that_is_no_label_map_is_refused(labels: npt.NDArray, says: str) -> None:
    """Fractions, negatives, more than uint16 holds, another shape."""
    with pytest.raises(CaseError, match=f"^2DBox_CT_1: gts .*{says}"):
        make_case("2DBox_CT_1", IMAGE, np.array(BOX), truth=labels)


def test_labels_need_their_key(tmp_path: Path) -> None:
    """A prediction that holds `gts` is not a prediction."""
    np.savez(tmp_path / "a.npz", gts=np.zeros((2, 2)))
    with pytest.raises(CaseError, match=r"^a: key 'segs' is missing"):
        read_labels(tmp_path / "a.npz", "segs")


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        *[(f"2DBox_{modality}_0001", modality) for modality in MODALITIES],
        *[("2DBox_XRay_1", "X-Ray"), ("2DBox_CXR_1", "X-Ray"), ("2DBox_X-ray_1", "X-Ray"), ("2DBox_Ultra_1", "US")],
        *[
            ("2DBox_Microscope_0008", "Microscopy"),
            ("2DBox_Dermoscope_1", "Dermoscopy"),
            ("2DBox_Mamm_1", "Mammography"),
        ],
        *[("2DBox_Endoscope_1", "Endoscopy"), ("3DBox_MRI_T1_1", "MR"), ("3DBox_pet_1", "PET")],
        *[("2DBox_oct_CT_1", "OCT"), ("scan 12 CT", "CT"), ("2DBox_0001", UNKNOWN), ("image", UNKNOWN)],
    ],
)
def test_modalities_are_known_in_every_public_spelling(name: str, modality: str) -> None:
    """OCT is not CT, and nothing is guessed from the inside of a word."""
    assert modality_of(name) == modality


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("ctrl01_MR_brain", "MR"), ("October_CT_01", "CT"), ("MRN00123_CT_chest", "CT"), ("petra-07.MRI", "MR"),
        ("user3_PET", "PET"), ("mammal_US_2", "US"), ("ultra_low_dose_CT", "CT"), ("2DBox_ctrl_MR_1", "MR"),
        ("2DBox_octopus_0001", UNKNOWN), ("Oktober_pöct_1", UNKNOWN), ("CTscan", UNKNOWN), ("CT01", "CT"),
        ("chest x-ray 12", "X-Ray"), ("X_Ray_3", "X-Ray"), ("2DBox_X-Ray_US_1", "X-Ray"), ("PET_CT_1", UNKNOWN),
        ("Mr_Smith_CT", UNKNOWN), ("CT_AMOS_0018", "CT"), ("US3D_1", "US"), ("patient-mri_t1", "MR"),
    ],
)  # fmt: skip
def test_only_whole_words_name_a_modality(name: str, modality: str) -> None:
    """The challenge's own place first; a word that only begins so is none, and of two nothing is guessed."""
    assert modality_of(name) == modality


def test_the_data_set_is_the_third_word_of_a_name() -> None:
    """Where there is none, the modality stands in."""
    assert dataset_in_name("2DBox_CT_LungCT_310") == "LungCT"
    assert dataset_in_name("2DBox_CT_0001") == "CT"


def test_cases_are_found_in_name_order_and_hidden_files_are_not_cases(tmp_path: Path) -> None:
    """`.npz` in any case of letters; macOS leaves `._name.npz` beside each file."""
    for name in ("b.npz", "a.npz", "c.NPZ", "._a.npz", ".a.npz.12.partial", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_cases(tmp_path)] == ["a.npz", "b.npz", "c.NPZ"]
    assert find_cases(tmp_path / "b.npz") == [tmp_path / "b.npz"]


def test_nothing_to_do_is_an_error_that_says_so(tmp_path: Path) -> None:
    """A folder without cases, and a path to nothing."""
    with pytest.raises(CaseError, match=r"no \.npz case in this folder"):
        find_cases(tmp_path)
    with pytest.raises(CaseError, match="nowhere: no such file or folder"):
        find_cases(tmp_path / "nowhere")
