"""Intensities become greys as the public cases' did."""

from pathlib import Path

import numpy as np
import pytest

from edge.data.formats.registry import read_input, read_label_map
from edge.data.intensity import Window, parse_window, percentile_window, to_greys
from edge.data.scan import Reading
from edge.errors import RunError


@pytest.mark.parametrize(
    ("image", "case"),
    [
        ("MR_hippocampus001_image", "3DBox_MR_MSD-Hippocampus_001"),  # stored as RAS
        ("MR_sct_t2_image", "3DBox_MR_SCT-SpinalCord_t2-levels"),  # stored as PSR
    ],
)
def test_a_scan_is_the_public_case_made_of_it(shared: Path, image: str, case: str) -> None:
    """Every grey and every slice."""
    with np.load(shared / "data" / "train" / f"{case}.npz") as expected:
        read = read_input(shared / "data" / "nifti" / f"{image}.nii.gz")
        assert np.array_equal(read.image, expected["imgs"])
        assert np.allclose(read.spacing_mm or 0, expected["spacing"])
        if "hippocampus" in image:
            labels = read_label_map(shared / "data" / "nifti" / f"{image.replace('image', 'label')}.nii.gz").labels
            assert np.array_equal(labels, expected["gts"])


@pytest.mark.parametrize(
    ("text", "window"),
    [("soft", (-160, 240)), ("lung", (-910, 590)), ("brain", (0, 80)), ("bone", (-500, 1300)), ("50,100", (0, 100)),
     ("-600/1500", (-1350, 150))],
)  # fmt: skip
def test_windows_by_name_and_by_level_and_width(text: str, window: tuple[float, float]) -> None:
    assert parse_window(text) == Window(*window)


@pytest.mark.parametrize("text", ["liver", "40", "40,0", "40,-1", "a,b", ""])
def test_what_is_no_window_is_said(text: str) -> None:
    with pytest.raises(RunError, match="--window must be soft, lung, brain, bone, suv or LEVEL,WIDTH"):
        parse_window(text)


def test_a_window_by_hand() -> None:
    """-160 and below is 0, 240 and above 255, 40 the middle, rounded to the even grey; NaN is 0."""
    values = np.array([[[-2000, -160, 40, 240, 3000, np.nan]]], np.float32)
    assert to_greys(values, 1, 0, "CT")[0].tolist() == [[[0, 0, 128, 255, 255, 0]]]
    stored = np.array([[[0, 432, 632]]], np.int16)  # twice HU + 1024 / 2
    assert to_greys(stored, 2, -1024, "CT")[0].tolist() == [[[0, 0, 255]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.37, -3.0), (-2.0, 5.0)])
def test_percentiles_are_numpys(dtype: type, slope: float, intercept: float) -> None:
    """From counts or from values, of what is not 0."""
    rng = np.random.default_rng(1)
    volume = (rng.gamma(2, 20, (3, 40, 50)) * (rng.random((3, 40, 50)) > 0.5)).clip(0, 255).astype(dtype)
    values = volume.astype(np.float64) * slope + intercept
    low, high = np.percentile(values[values != 0], (0.5, 99.5))
    found = percentile_window(volume, slope, intercept)
    assert found is not None and np.allclose((found.low, found.high), (low, high), rtol=1e-6)


def test_who_states_no_modality_is_told_what_was_assumed() -> None:
    """Below -200 is CT; else as MR."""
    ct, (note,) = to_greys(np.array([[[-1000, 40, 1000]]], np.int16), 1, 0, None)
    assert ct.tolist() == [[[0, 128, 255]]] and "taken for CT" in str(note)
    mr, (note,) = to_greys(np.array([[[0, 10, 20]]], np.int16), 1, 0, None)
    assert mr.tolist() == [[[0, 0, 255]]] and "scaled as MR" in str(note)
    assert to_greys(np.zeros((1, 2, 2), np.int16), 1, 0, "MR")[0].max() == 0


def test_eight_bits_of_other_modalities_stay_as_they_are() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    assert np.array_equal(to_greys(grey, 1, 0, "US")[0], grey)
    assert Reading().window is None


@pytest.mark.parametrize(("least", "says"), [(-1027, "taken for CT"), (-100, "scaled as MR is")])
@pytest.mark.parametrize("padding", [np.nan, -np.inf])
def test_padding_that_is_no_number_does_not_decide_what_a_scan_is(least: float, says: str, padding: float) -> None:
    """CT has values below -200 beside it."""
    volume = np.full((2, 8, 8), 50, np.float32)
    volume[0, 0, :2] = least, padding
    assert says in str(to_greys(volume, 1, 0, None)[1][0])


def test_few_values_are_seen_and_one_is_said() -> None:
    """An MR that is a mask: its percentiles are one value, its greys two; a constant image is black, which is told."""
    mask = np.zeros((2, 8, 8), np.int16)
    mask[0, 2:4, 2:4] = 7
    greys, notes = to_greys(mask, 1, 0, "MR")
    assert np.array_equal(greys, (mask > 0) * 255) and notes == ()
    greys, notes = to_greys(mask.astype(np.float32), 1, 0, "MR")
    assert np.array_equal(greys, (mask > 0) * 255) and notes == ()
    greys, notes = to_greys(np.full((2, 8, 8), 7, np.int16), 1, 0, "MR")
    assert not greys.any() and "all the same" in str(notes[0])
