"""NRRD and MHA: damaged voxels, headers that say nothing of the place."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("SimpleITK", reason="needs SimpleITK (extra itk), which is not there")

import SimpleITK as itk

from edge.data.formats.finding import files_of, find_inputs
from edge.data.formats.registry import read_input, read_stored, read_with_truth
from edge.data.remote import on_disk
from edge.data.scan import Reading
from edge.errors import CaseError

VOLUME = np.random.default_rng(0).integers(0, 900, (6, 24, 20)).astype(np.int16)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("damage", ["cut", "zeros", "none"])
def test_damaged_voxels_are_refused(tmp_path: Path, ending: str, compressed: bool, damage: str) -> None:
    """ITK reads on, and says so on stderr alone; zeros in voxels that are not packed are voxels."""
    path = tmp_path / f"MR_1{ending}"
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(path), useCompression=compressed)
    voxels = next((one for one in tmp_path.iterdir() if one != path), path)
    assert (voxels == path) == (ending in (".mha", ".nrrd"))
    content = bytearray(voxels.read_bytes())
    if damage == "cut":
        content = content[:-200]
    elif damage == "zeros":
        content[-900:-860] = bytes(40)
    voxels.write_bytes(content)
    if damage == "none" or (damage == "zeros" and not compressed):
        assert read_input(path).image.shape == VOLUME.shape
    else:
        with pytest.raises(CaseError, match=r"^MR_1: "):
            read_input(path)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize(
    ("other", "told"),
    [
        ("../secret.raw", r"voxels in other files \(\.\./secret\.raw\)"),
        ("LIST", "voxels in other files"),
        ("slice%03d.raw 1 6 1", "voxels in other files"),
        ("gone.raw", r"voxels in gone\.raw, which is not beside it"),
        ("{folder}/secret.raw", "voxels in other files"),
    ],
)
def test_voxels_that_are_not_in_a_file_beside_are_refused(tmp_path: Path, ending: str, other: str, told: str) -> None:
    """Whoever sends a header could have any file of this disk shown."""
    folder = tmp_path / "cases"
    folder.mkdir()
    for place in (tmp_path, folder):
        (place / "secret.raw").write_bytes(VOLUME.tobytes())
    other = other.format(folder=folder)
    nrrd = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 20 24 6\nencoding: raw\nendian: little\ndata file: {other}\n\n"
    meta = f"ObjectType = Image\nNDims = 3\nDimSize = 20 24 6\nElementType = MET_SHORT\nElementDataFile = {other}\n"
    (folder / f"MR_1{ending}").write_text(nrrd if ending in (".nrrd", ".nhdr") else meta)
    with pytest.raises(CaseError, match=f"^MR_1: MR_1{ending} has its {told}"):
        read_input(folder / f"MR_1{ending}")
    (folder / f"MR_1{ending}").write_text((nrrd if ending in (".nrrd", ".nhdr") else meta).replace(other, "secret.raw"))
    assert read_input(folder / f"MR_1{ending}").image.shape == VOLUME.shape


def test_voxels_may_be_said_to_follow_in_any_case(tmp_path: Path) -> None:
    """`Local` as some write it."""
    path = tmp_path / "MR_1.mha"
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(path))
    path.write_bytes(path.read_bytes().replace(b"= LOCAL", b"= Local "))
    assert read_input(path).image.shape == VOLUME.shape


def test_a_folder_of_headers_and_voxels_holds_a_case_for_each_header(tmp_path: Path) -> None:
    """With its truth beside it, as PROMISE12 has them."""
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(tmp_path / "Case00.mhd"))
    itk.WriteImage(itk.GetImageFromArray((VOLUME > 450).astype(np.uint8)), str(tmp_path / "Case00_gt.mhd"))
    assert find_inputs(tmp_path) == [tmp_path / "Case00.mhd"]
    read = [path.name for path in files_of(tmp_path / "Case00.mhd")]  # what --resume and prepared data are held to
    assert read == ["Case00.mhd", "Case00.raw", "Case00_gt.mhd", "Case00_gt.raw"]
    case = read_with_truth(tmp_path / "Case00.mhd")
    assert case.truth is not None and np.array_equal(case.truth, VOLUME > 450)


def test_a_header_without_directions_is_told(tmp_path: Path) -> None:
    """One that states them is not."""
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 20 24 6\nencoding: raw\nendian: little\n"
    (tmp_path / "MR_1.nrrd").write_bytes(header + b"\n" + VOLUME.tobytes())
    told = [str(note) for note in read_input(tmp_path / "MR_1.nrrd").notes]
    assert any("states no directions" in note for note in told) and any("left out" in note for note in told)
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(tmp_path / "MR_2.nrrd"))
    assert read_input(tmp_path / "MR_2.nrrd").notes == ()


def test_packed_voxels_may_be_of_several_streams_or_after_others(tmp_path: Path) -> None:
    """As `pigz` and `cat` write them, and as `byte skip` says; `./` is this folder."""
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 20 24 6\nencoding: gzip\nendian: little\n"
    content = VOLUME.tobytes()
    (tmp_path / "two.raw.gz").write_bytes(gzip.compress(content[:999]) + gzip.compress(content[999:]))
    (tmp_path / "skip.raw.gz").write_bytes(gzip.compress(bytes(100) + content))
    (tmp_path / "MR_two.nhdr").write_text(f"{header}data file: ./two.raw.gz\n\n")
    (tmp_path / "MR_skip.nhdr").write_text(f"{header}byte skip: 100\ndata file: skip.raw.gz\n\n")
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(tmp_path / "MR_whole.nrrd"))
    whole = read_input(tmp_path / "MR_whole.nrrd").image
    for name in ("MR_two", "MR_skip"):
        assert np.array_equal(read_input(tmp_path / f"{name}.nhdr").image, whole)


def test_voxels_that_end_too_soon_are_said_to(tmp_path: Path) -> None:
    """Not that there is no such file."""
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(tmp_path / "MR_1.mhd"))
    (tmp_path / "MR_1.raw").write_bytes(VOLUME.tobytes()[:-1000])
    with pytest.raises(CaseError, match=r"^MR_1: MR_1\.raw is cut short"):
        read_input(tmp_path / "MR_1.mhd")


NRRD = "NRRD0004\ntype: unsigned char\ndimension: 3\nsizes: 4 5 6\nencoding: raw\n"
META = "ObjectType = Image\nNDims = 3\nDimSize = 4 5 6\nElementType = MET_UCHAR\n"


@pytest.mark.parametrize(
    ("ending", "header"),
    [
        (".nrrd", f"{NRRD}# x\rdata file: {{other}}\n\n"),  # the library ends a line at \r, too
        (".nrrd", f"{NRRD}# {'x' * (2**20 - len(NRRD) - 3)}\ndata file: {{other}}\n\n"),
        (".nrrd", f"{NRRD} data file: {{other}}\n\n"),
        (".nrrd", f"{NRRD}content: \v\n\n"),  # nothing of a header is left to how a library reads it
        (".nhdr", f"{NRRD}data file: LIST3\n{{other}}\n"),
        (".mha", f"{META}\vElementDataFile = {{other}}\nElementDataFile = LOCAL\n"),
        (".mha", f"{META}Comment = ElementDataFile = {{other}}\nElementDataFile = LOCAL\n"),
        (".mha", f"{META}ElementDataFile\0= {{other}}\nElementDataFile = LOCAL\n"),
        (".mhd", f"{META}ElementDataFile = LISTx\n{{other}}\n"),
        (".mhd", f"{META}ElementDataFile = ~a.raw\n"),
    ],
)
def test_no_header_reaches_beyond_its_folder(tmp_path: Path, ending: str, header: str) -> None:
    """Whatever the library takes for a line, a key or a list of files."""
    folder = tmp_path / "cases"
    folder.mkdir()
    for place in (tmp_path / "secret.raw", folder / "LIST3", folder / "LISTx", folder / "~a.raw"):
        place.write_bytes(bytes([77]) * 120)
    (folder / f"MR_1{ending}").write_bytes(header.format(other=tmp_path / "secret.raw").encode() + bytes([11]) * 120)
    with pytest.raises(CaseError, match=r"^MR_1: .*(no header that can be read|in several ways|in other files)"):
        read_input(folder / f"MR_1{ending}")


def test_headers_as_programs_write_them_are_read(tmp_path: Path) -> None:
    """With the ends of lines of Windows, 84 kB long as of a hundred segments, `CompressedData = T`."""
    segments = "".join(f"Segment{number}_Tags:={'x' * 700}\n" for number in range(117))
    (tmp_path / "a.raw").write_bytes(bytes(range(120)))
    (tmp_path / "a.zraw").write_bytes(zlib.compress(bytes(range(120))))
    headers = {
        "MR_crlf.nhdr": f"{NRRD}data file: a.raw\n".replace("\n", "\r\n"),
        "MR_long.nhdr": f"{NRRD}{segments}data file: a.raw\n",
        "MR_t.mhd": f"{META}CompressedData = T\nElementDataFile = a.zraw",
        "MR_one.mhd": f"{META}CompressedData = 1\nElementDataFile : a.zraw\n",
    }
    for name, header in headers.items():
        (tmp_path / name).write_bytes(header.encode())
        assert read_stored(tmp_path / name, Reading()).array.transpose(2, 1, 0).tobytes() == bytes(range(120)), name


def test_voxels_beside_a_header_in_a_store_come_with_it(tmp_path: Path) -> None:
    """Of a truth as well, which is fetched by itself."""
    fsspec = pytest.importorskip("fsspec", reason="needs fsspec (extra store), which is not there")
    itk.WriteImage(itk.GetImageFromArray(VOLUME), str(tmp_path / "MR_1.mhd"))
    files = fsspec.filesystem("memory")
    files.put([str(tmp_path / "MR_1.mhd"), str(tmp_path / "MR_1.raw")], "/voxels/")
    with on_disk(Path("memory://voxels/MR_1.mhd"), beside=()) as local:
        assert np.array_equal(read_input(local).image, read_input(tmp_path / "MR_1.mhd").image)
