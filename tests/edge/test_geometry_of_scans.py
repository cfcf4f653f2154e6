"""Voxels, boxes and label maps go from a file's order to the volume's and back, whatever the file's order is."""

import itertools
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from edge.data.formats.nifti import read_scan, write_labels
from edge.data.geometry import make_geometry
from edge.data.scan import Reading, labels_of
from edge.errors import CaseError

SHAPE = (5, 6, 7)  # R, A, S
SPACING = (1.5, 1.25, 1.75)
OBLIQUE = [[0.96, -0.2, 0.1961], [0.2, 0.9798, 0.0], [-0.192, 0.0392, 0.9806]]
CODES = [
    "".join(codes)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for codes in itertools.product(*order)
]  # fmt: skip


def oblique() -> npt.NDArray[np.float64]:
    """A rotation by some degrees about two axes, with voxels of three sizes."""
    unit, _ = np.linalg.qr(np.array(OBLIQUE))
    unit *= np.sign(np.diag(unit))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = unit * SPACING, (-12.5, 7.25, 100)
    return affine


def scan(codes: str, affine: npt.NDArray[np.float64] | None = None) -> tuple[npt.NDArray[np.int16], npt.NDArray]:
    """The same voxels stored with axes that go to `codes`: array and affine."""
    base = np.diag([*SPACING, 1.0]) if affine is None else affine
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    turn = nibabel.orientations.ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    return nibabel.orientations.apply_orientation(values, turn), base @ inv_ornt_aff(turn, SHAPE)


def test_there_are_48_orientations() -> None:
    assert len(CODES) == len(set(CODES)) == 48


@pytest.mark.parametrize("codes", [*CODES, "oblique RAS", "oblique PSR"])
def test_a_volume_is_the_same_in_every_orientation(tmp_path: Path, codes: str) -> None:
    """Voxel by voxel: what is shown, where in the patient by nibabel and by SimpleITK, and the way back."""
    itk = pytest.importorskip("SimpleITK", reason="needs SimpleITK (extra itk), which is not there")
    array, affine = scan(codes[-3:], oblique() if codes.startswith("oblique") else None)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.nifti1.Nifti1Image(array, affine), path)
    read = read_scan(path, Reading())
    geometry = read.geometry
    shown = geometry.to_volume(read.array)
    expected = np.arange(np.prod(SHAPE)).reshape(SHAPE)[::-1, ::-1].transpose(2, 1, 0)  # (S, P, L) of R, A, S
    assert geometry.plane == "axial" and geometry.orientation == codes[-3:]
    assert np.array_equal(shown, expected)
    assert np.array_equal(geometry.to_file(shown), array)
    assert np.allclose(geometry.spacing_mm, SPACING[::-1])

    there = itk.ReadImage(str(path))
    image = nibabel.load(path)
    for z, y, x in itertools.product(*map(range, shown.shape)):
        ras = geometry.mm_from_volume(np.array([[x, y, z]]), "RAS")
        lps = geometry.mm_from_volume(np.array([[x, y, z]]), "LPS")
        index = np.linalg.inv(image.affine) @ [*ras[0], 1]
        i, j, k = np.rint(index[:3]).astype(int).tolist()
        assert np.abs(index[:3] - (i, j, k)).max() < 1e-4
        assert array[i, j, k] == shown[z, y, x]
        assert there.GetPixel(there.TransformPhysicalPointToIndex(lps[0].tolist())) == shown[z, y, x]
        assert np.allclose(geometry.volume_from_mm(lps, "LPS"), [[x, y, z]])
        assert np.allclose(geometry.volume_from_file(np.array([[i, j, k]])), [[x, y, z]])


@pytest.mark.parametrize(("sform", "qform"), [(1, 1), (2, 1), (0, 1), (4, 0), (0, 0)])
@pytest.mark.parametrize("codes", ["RAS", "PSR", "LIA"])
def test_labels_are_written_on_the_voxels_they_came_from(tmp_path: Path, codes: str, sform: int, qform: int) -> None:
    """Affine, shape and codes of both forms as in the image; read again they are the same labels."""
    array, affine = scan(codes, oblique())
    image = nibabel.nifti1.Nifti1Image(array, None if sform == qform == 0 else affine)
    image.header["sform_code"], image.header["qform_code"] = sform, qform
    nibabel.save(image, tmp_path / "scan.nii")
    read = read_scan(tmp_path / "scan.nii", Reading())
    labels = (read.geometry.to_volume(read.array) % 3).astype(np.uint8)
    write_labels(tmp_path / "labels.nii.gz", labels, read.geometry, tmp_path / "scan.nii")
    written, original = nibabel.load(tmp_path / "labels.nii.gz"), nibabel.load(tmp_path / "scan.nii")
    assert np.array_equal(written.affine, original.affine)
    assert np.array_equal(np.asarray(written.dataobj), array % 3)
    for key in ("sform_code", "qform_code", "srow_x", "quatern_b", "qoffset_z", "pixdim"):
        assert np.array_equal(written.header[key], original.header[key]), key
    assert np.array_equal(labels_of(read_scan(tmp_path / "labels.nii.gz", Reading())), labels)


@pytest.mark.parametrize(
    ("codes", "spacing", "plane", "shown"),
    [("RAS", (1, 1, 5), "axial", "SPL"), ("PSR", (1, 1, 4), "sagittal", "LIP"), ("LSA", (1, 1, 4), "coronal", "PIL"),
     ("PSR", (1, 1, 1.4), "axial", "SPL")],
)  # fmt: skip
def test_thick_slices_are_shown_as_they_were_taken(
    codes: str, spacing: tuple[float, ...], plane: str, shown: str
) -> None:
    """Along the axis of much longer voxels; where D, H and W go is what a radiologist is used to."""
    columns = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    affine = np.eye(4)
    affine[:3, :3] = np.array([columns[code] for code in codes]).T * spacing
    geometry = make_geometry("scan", affine, (4, 5, 6))
    assert geometry.plane == plane
    origin, *ends = geometry.mm_from_volume(np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]), "RAS")
    ways = [np.sign(np.rint(end - origin)).astype(int).tolist() for end in ends]
    assert ways == [list(columns[code]) for code in shown]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda affine: affine.__setitem__((1, 2), 0.4), "degrees off right angles"),
        (lambda affine: affine.__setitem__((slice(0, 3), 1), 0), "no finite voxel size"),
        (lambda affine: affine.__setitem__((0, 3), np.nan), "no finite voxel size"),
    ],
)
def test_axes_that_no_boxes_of_voxels_have_are_refused(change: object, says: str) -> None:
    affine = np.eye(4)
    change(affine)  # type: ignore[operator]
    with pytest.raises(CaseError, match=f"^scan: .*{says}"):
        make_geometry("scan", affine, (4, 5, 6))
