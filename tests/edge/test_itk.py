"""NRRD and MHA: damaged voxels, headers that say nothing of the place."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("SimpleITK", reason="needs SimpleITK (extra itk), which is not there")

import SimpleITK as itk

from edge.data.formats.registry import read_input
from edge.errors import CaseError

VOLUME = np.random.default_rng(0).integers(0, 900, (6, 24, 20)).astype(np.int16)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("damage", ["cut", "zeros", "none"])
def test_damaged_voxels_of_an_mha_are_refused(tmp_path: Path, compressed: bool, damage: str) -> None:
    """ITK reads on, and says so on stderr alone; zeros in voxels that are not packed are voxels."""
    path = tmp_path / "MR_1.mha"
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(path), useCompression=compressed)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-200]
    elif damage == "zeros":
        content[-900:-860] = bytes(40)
    path.write_bytes(content)
    if damage == "none" or (damage == "zeros" and not compressed):
        assert read_input(path).image.shape == VOLUME.shape
    else:
        with pytest.raises(CaseError, match=r"^MR_1: "):
            read_input(path)


def test_voxels_may_be_said_to_follow_in_any_case(tmp_path: Path) -> None:
    """`Local` as some write it; another file is refused."""
    path = tmp_path / "MR_1.mha"
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(path))
    path.write_bytes(path.read_bytes().replace(b"= LOCAL", b"= Local "))
    assert read_input(path).image.shape == VOLUME.shape
    path.write_bytes(path.read_bytes().replace(b"= Local ", b"= x.raw"))
    with pytest.raises(CaseError, match=r"^MR_1: MR_1.mha has its voxels in another file"):
        read_input(path)


def test_a_header_without_directions_is_told(tmp_path: Path) -> None:
    """One that states them is not."""
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 20 24 6\nencoding: raw\nendian: little\n"
    (tmp_path / "MR_1.nrrd").write_bytes(header + b"\n" + VOLUME.tobytes())
    told = [str(note) for note in read_input(tmp_path / "MR_1.nrrd").notes]
    assert any("states no directions" in note for note in told) and any("left out" in note for note in told)
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(tmp_path / "MR_2.nrrd"))
    assert read_input(tmp_path / "MR_2.nrrd").notes == ()
