"""Boxes in files: of one case or many, in voxels of the file or mm, with names; and around the labels of a map."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from edge.data.box_files import read_box_file
from edge.data.formats.registry import read_input
from edge.data.prompting import Prompting, boxes_of_labels, prompted
from edge.data.sidecar import describe
from edge.errors import CaseError, RunError

AFFINE = np.array([[0, 0, -1.5, 9], [0, -0.5, 0, 2], [2, 0, 0, -4], [0, 0, 0, 1.0]])  # stored as S P L
SHAPE = (5, 40, 30)
HEADER = "x_min,y_min,z_min,x_max,y_max,z_max"
IN_VOLUME = [[7, 20, 1, 9, 30, 3]]  # of i j k 1 20 7 to 3 30 9: x is k, y is j, z is i


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """An MR stored slice by slice from the feet, its rows to the back, its columns to the left."""
    voxels = np.random.default_rng(0).integers(1, 900, SHAPE).astype(np.int16)
    (tmp_path / "sub").mkdir()
    nibabel.save(nibabel.nifti1.Nifti1Image(voxels, AFFINE), tmp_path / "sub" / "MR_a.nii.gz")
    return tmp_path / "sub" / "MR_a.nii.gz"


def mm(frame: str) -> list[float]:
    """The corners of i j k 1 20 7 and 3 30 9."""
    ends = np.array([[1, 20, 7, 1], [3, 30, 9, 1.0]]) @ AFFINE[:3].T * ((-1, -1, 1) if frame == "LPS" else (1, 1, 1))
    return [*ends.min(axis=0).tolist(), *ends.max(axis=0).tolist()]


@pytest.mark.parametrize(
    "content",
    [
        f"{HEADER}\n1,20,7,3,30,9\n",
        "1,20,7,3,30,9\n",
        f"label;file;{HEADER.replace(',', ';')}\r\nliver;MR_a;1;20;7;3;30;9\r\nspleen;MR_b;0;0;0;1;1;1\r\n",
        "file,x,y,z,width,height,depth\nMR_a.nii.gz,1,20,7,3,11,3\n",
        f"{HEADER},units\n{','.join(map(str, mm('LPS')))},LPS\n",
        f"units,{HEADER}\nras,{','.join(map(str, mm('RAS')))}\n",
        f"file,{HEADER}\nother/MR_a.nii.gz,0,0,0,1,1,1\nsub/MR_a,1,20,7,3,30,9\nMR_a.1,0,0,0,1,1,1\n",
    ],
)
def test_a_table_says_boxes_in_voxels_of_the_file_or_in_mm(scan: Path, content: str) -> None:
    """With and without a first line of names, of many cases, as corner and size."""
    (scan.parent / "boxes.csv").write_bytes(b"\xef\xbb\xbf" + content.encode())
    case = prompted(read_input(scan), scan, Prompting(boxes=scan.parent / "boxes.csv"))
    assert case.boxes.tolist() == IN_VOLUME
    assert case.label_names == (("liver",) if "liver" in content else ())


RECORD = dict(zip(HEADER.split(","), (1, 20, 7, 3, 30, 9), strict=True))


@pytest.mark.parametrize(
    "content",
    [
        [[1, 20, 7, 3, 30, 9]],
        [{**RECORD, "label": "liver"}],
        {"boxes": [RECORD]},
        {"MR_a": [[1, 20, 7, 3, 30, 9]], "MR_b": [[0, 0, 0, 1, 1, 1]]},
        {"units": "RAS", "boxes": {"MR_a.nii.gz": [mm("RAS")]}},
        {"other/MR_a.nii.gz": [[0, 0, 0, 1, 1, 1]], "./sub/MR_a.nii.gz": [[1, 20, 7, 3, 30, 9]], "MR_a.1": [[0] * 6]},
        [{**dict(zip(HEADER.split(","), mm("LPS"), strict=True)), "units": "LPS", "file": "sub/MR_a.nii.gz"}],
    ],
)
def test_json_says_the_same(scan: Path, content: object) -> None:
    """Rows or records, of one case or many; beside the case it is found by itself."""
    (scan.parent / "MR_a.json").write_text(json.dumps(content))
    assert prompted(read_input(scan), scan).boxes.tolist() == IN_VOLUME


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "b.csv",
            f"file,{HEADER}\nMR_b,1,2,3,4,5,6\n",
            "names no box of it; its column file must hold MR_a.nii.gz, MR_a or, of this folder only, sub/MR_a",
        ),
        ("b.csv", f"file,{HEADER}\nMR_a,1,2,3,4,5,6\n,1,2,3,4,5,6\n", "b.csv line 3 names no file; fill the column"),
        ("b.json", json.dumps([RECORD, {**RECORD, "file": "MR_a"}]), "has records with and without a file; say it in"),
        ("b.csv", f"{HEADER},units\n1,2,3,4,5,6,mm\n", "has units 'mm'; expected voxels, LPS, RAS"),
        ("b.csv", f"{HEADER},units\n1,2,3,4,5,6,LPS\n1,2,3,4,5,6,RAS\n", "mixes units"),
        ("b.csv", "label,x_min,y_min,x_max,y_max\na,1,2,3,4\n", "line 1 lacks the columns z_min, z_max"),
        ("b.csv", "1,2,3,4\n", f"line 1 must be {HEADER}, got 1,2,3,4"),
        ("b.csv", f"{HEADER}\n3,20,7,1,30,9\n", "minimum above its maximum"),
        ("b.csv", f"{HEADER}\n1,20,7,3,30,900\n", "lies far outside"),
        ("b.json", "[1, 2", "is no JSON"),
        ("b.nii.gz", "rubbish", "b.nii.gz is no CSV or JSON of boxes; a label map goes to --boxes-from"),
        ("b.json", "[" * 100000, "is no JSON"),
        ("b.json", '{"MR_b": [[1,2,3,4,5,6]]}', "names no box of it; it has MR_b"),
        ("b.json", '{"sub2/MR_a": [[1,2,3,4,5,6]]}', "names no box of it; it has sub2/MR_a"),
        ("b.json", '{"MR_a": [[1,2,3,4,5,6]], "sub/MR_a.nii.gz": []}', "names it 2 times; one list of boxes"),
        (
            "b.json",
            json.dumps([RECORD, {**RECORD, "units": "LPS"}]),
            r"mixes units \(LPS, none\); one for all its boxes",
        ),
        (
            "b.csv",
            "x,y,z,width,height,depth\n1,20,7,3,0.5,3\n",
            "has a box 1,20,7,3,0.5,3; it must be x,y,z,width,height,",
        ),
        ("b.json", json.dumps({"units": "LPS", "boxes": [{**RECORD, "units": "RAS"}]}), r"mixes units \(LPS, RAS\)"),
        ("b.json", "[[1,2,3]]", "must hold rows of 6 numbers"),
        ("b.json", '[[1,2,3,4,5,6], {"x_min": 1}]', "mixes records and rows"),
        ("b.json", '[{"x_min": 1}]', "boxes record 0 lacks y_min"),
        ("b.json", '["a"]', "must hold rows of 6 numbers"),
        ("b.json", "7", "must hold a list of boxes"),
    ],
)
def test_what_cannot_be_boxes_is_one_line(scan: Path, name: str, content: str, says: str) -> None:
    (scan.parent / name).write_text(content)
    with pytest.raises(CaseError, match=f"^MR_a: .*{says}") as caught:
        prompted(read_input(scan), scan, Prompting(boxes=scan.parent / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.csv", f"file,{HEADER}\n,1,20,7,3,30,9\n,1,20,7,3,30,9\n"),
        ("b.json", json.dumps([RECORD, {**RECORD, "file": ""}])),
    ],
)
def test_a_file_that_names_no_case_in_any_line_is_of_this_one(scan: Path, name: str, content: str) -> None:
    """Its column was left empty."""
    (scan.parent / name).write_text(content)
    assert len(prompted(read_input(scan), scan, Prompting(boxes=scan.parent / name)).boxes) == 2


@pytest.mark.parametrize("said", ["in the file", "on the command line"])
def test_a_width_in_mm_is_one(tmp_path: Path, said: str) -> None:
    """Voxels of 0.25 mm, from the centre at 2.75 mm to that at 7.25: 4.5 mm, not 3.5; it may be less than 1."""
    voxels = np.zeros((40, 40, 10), np.int16)
    nibabel.save(nibabel.nifti1.Nifti1Image(voxels, np.diag([-0.25, -0.25, 1, 1])), tmp_path / "MR_a.nii.gz")
    scan, file = tmp_path / "MR_a.nii.gz", tmp_path / "boxes.csv"
    units = ("", "") if said == "on the command line" else (",units", ",LPS")
    file.write_text(f"x,y,z,width,height,depth{units[0]}\n2.75,2.75,1,4.5,0.5,4{units[1]}\n")
    prompting = Prompting(boxes=file, units=None if units[0] else "LPS")
    assert prompted(read_input(scan), scan, prompting).boxes.tolist() == [[11, 11, 1, 29, 13, 5]]
    file.write_text(f"x,y,z,width,height,depth{units[0]}\n2.75,2.75,1,4.5,0,4{units[1]}\n")
    with pytest.raises(CaseError, match=r"has a box 2\.75,2\.75,1,4\.5,0,4; .* sizes in mm, more"):
        prompted(read_input(scan), scan, prompting)


def test_one_box_from_the_command_line(scan: Path) -> None:
    """x0,y0,x1,y1,z0,z1; in mm where the units say so."""
    case = read_input(scan)
    assert prompted(case, scan, Prompting(box="1,20,3,30,7,9")).boxes.tolist() == IN_VOLUME
    low_x, low_y, low_z, high_x, high_y, high_z = mm("LPS")
    text = f"{low_x},{low_y},{high_x},{high_y},{low_z},{high_z}"
    assert prompted(case, scan, Prompting(box=text, units="LPS")).boxes.tolist() == IN_VOLUME
    with pytest.raises(CaseError, match="--box must be x0,y0,x1,y1,z0,z1 of a volume, got 1,2,3,4"):
        prompted(case, scan, Prompting(box="1,2,3,4"))
    with pytest.raises(RunError, match="--box must be"):
        prompted(case, scan, Prompting(box="1,2,3"))
    with pytest.raises(RunError, match="one of --box, --boxes and --boxes-from"):
        Prompting(box="1,2,3,4", boxes_from=scan)


def test_boxes_around_labels_by_hand() -> None:
    """x and y of the middle slice; of all slices where that one lacks the object; numbers may have gaps."""
    labels = np.zeros((5, 6, 7), np.uint8)
    labels[0, 0, 0] = labels[1, 2:4, 3] = labels[2, 5, 6] = 9
    labels[2, 1, 1] = labels[4, 3, 2] = 4
    rows, numbers = boxes_of_labels(labels)
    assert numbers == [4, 9]
    assert rows.tolist() == [[1, 1, 2, 2, 3, 4], [3, 2, 0, 3, 3, 2]]
    assert boxes_of_labels(labels[1])[0].tolist() == [[3, 2, 3, 3]]
    assert boxes_of_labels(np.zeros((3, 3), np.uint8))[0].shape == (0, 4)


def test_boxes_from_a_label_map_in_another_orientation(scan: Path) -> None:
    """By place, not by index; one that lies elsewhere, or holds nothing, is refused."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 20:31, 7:10] = 5
    image = nibabel.nifti1.Nifti1Image(labels, AFFINE)
    nibabel.save(nibabel.as_closest_canonical(image), scan.parent / "labels.nii")
    case = prompted(read_input(scan), scan, Prompting(boxes_from=scan.parent / "labels.nii"))
    assert case.boxes.tolist() == IN_VOLUME and case.label_names == ("5",)
    moved = AFFINE.copy()
    moved[0, 3] += 4
    nibabel.save(nibabel.nifti1.Nifti1Image(labels, moved), scan.parent / "moved.nii")
    with pytest.raises(CaseError, match=r"^MR_a: moved.nii lies 4.0 mm beside the image"):
        prompted(read_input(scan), scan, Prompting(boxes_from=scan.parent / "moved.nii"))
    (scan.parent / "maps").mkdir()
    with pytest.raises(CaseError, match=r"^MR_a: no label map of its name in"):
        prompted(read_input(scan), scan, Prompting(boxes_from=scan.parent / "maps"))
    nibabel.save(nibabel.nifti1.Nifti1Image(labels * 0, AFFINE), scan.parent / "maps" / "MR_a_gt.nii.gz")
    with pytest.raises(CaseError, match=r"^MR_a: MR_a_gt.nii.gz holds no object, only background"):
        prompted(read_input(scan), scan, Prompting(boxes_from=scan.parent / "maps"))


def test_a_picture_has_no_mm(tmp_path: Path) -> None:
    from edge.data.case import make_case

    case = make_case("a", np.zeros((9, 9, 3), np.uint8), [])
    with pytest.raises(CaseError, match=r"^a: states no place in mm; give boxes in voxels"):
        prompted(case, tmp_path / "a.png", Prompting(box="1,2,3,4", units="RAS"))
    (tmp_path / "a.csv").write_text("x_min,y_min,width,height\n1,2,3,4\n")
    assert read_box_file(tmp_path / "a.png", tmp_path / "a.csv", 2).rows.tolist() == [[1, 2, 3, 5]]


def test_json_knows_the_names_that_a_table_does(scan: Path) -> None:
    """`case`, `unit`, `class`: a record of another case is not taken, and mm are no voxels."""
    corners = dict(zip(HEADER.split(","), mm("RAS"), strict=True))
    records = [
        {"case": "other", "unit": "RAS", **corners},
        {"image": "", "file": "MR_b", "unit": "RAS", **corners},
        {"Case": "MR_a", "unit": "RAS", "class": "liver", **corners},
        {"name": "tumour", "image": 7, "file": "MR_a.nii.gz", "units": "RAS", "label": "spleen", "class": 3, **corners},
        {"name": "tumour", "frame": 5, "case": "MR_a", "units": "RAS", "label": "kidney", **corners},
    ]
    (scan.parent / "b.json").write_text(json.dumps(records))
    case = prompted(read_input(scan), scan, Prompting(boxes=scan.parent / "b.json"))
    assert case.boxes.tolist() == IN_VOLUME * 3 and case.label_names == ("liver", "spleen", "kidney")
    (scan.parent / "b.json").write_text(json.dumps({"Unit": "RAS", "boxes": [corners]}))
    assert prompted(read_input(scan), scan, Prompting(boxes=scan.parent / "b.json")).boxes.tolist() == IN_VOLUME


def test_a_format_that_records_contradict_is_refused(scan: Path) -> None:
    """As of a table; and with --box, which holds corners."""
    sizes = dict(zip(("x", "y", "z", "width", "height", "depth"), (1, 20, 7, 3, 11, 3), strict=True))
    for record, said in ((RECORD, "xywh"), (sizes, "xyxy")):
        (scan.parent / "b.json").write_text(json.dumps([record]))
        with pytest.raises(CaseError, match=f"--box-format says {said}"):
            prompted(read_input(scan), scan, Prompting(boxes=scan.parent / "b.json", box_format=said))
    with pytest.raises(RunError, match="--box holds corners"):
        Prompting(box="1,2,3,4", box_format="xywh")


def test_boxes_are_judged_in_the_numbers_that_were_given(scan: Path) -> None:
    """Not in those of the volume that is shown, whose axes run elsewhere: i of 5, j of 40, k of 30."""
    image = read_input(scan)
    with pytest.raises(
        CaseError, match=r"\(0\.2 0\.3 0 0\.8 0\.7 4\) lies within 0 to 1.* multiply x by 5 and y by 40"
    ):
        prompted(image, scan, Prompting(box="0.2,0.3,0.8,0.7,0,4"))
    with pytest.raises(CaseError, match=r"row 0 \(50 5 0 60 10 3\) lies far outside"):
        prompted(image, scan, Prompting(box="50,5,60,10,0,3"))
    whole = prompted(image, scan, Prompting(box="0,0,5,40,0,30"))
    assert whole.boxes.tolist() == [[0, 0, 0, 29, 39, 4]] and whole.notes == image.notes
    last = prompted(image, scan, Prompting(box="4.2,20,4.9,30,7,9"))  # of five slices
    assert last.boxes[:, [2, 5]].tolist() == [[4, 4]]
    with pytest.raises(CaseError, match=r"--box must be x0,y0,x1,y1,z0,z1, each 0 at most its 1, got 1,20,3,0,30,9"):
        prompted(image, scan, Prompting(box="1,20,3,0,30,9"))


def test_a_file_that_is_not_there_is_said_at_once(scan: Path) -> None:
    """Not that another be written beside the case, which would not be read."""
    for given in ({"boxes": scan.parent / "gone.csv"}, {"boxes_from": scan.parent / "gone"}):
        with pytest.raises(RunError, match=r"gone.*: no such file or folder"):
            Prompting(**given)


def test_json_of_something_else_beside_a_scan_is_no_file_of_boxes(scan: Path) -> None:
    """A scanner's, as dcm2niix lays it, and predict's own; one of boxes of other cases is."""
    beside = scan.with_name("MR_a.json")
    boxed = prompted(read_input(scan), scan, Prompting(box="1,20,3,30,7,9"))
    own = describe(
        boxed, np.ones(boxed.shape, np.uint8), "MR_a.nii.gz", [], {"model": {"name": "m"}}, 1.0, [1.0], [0.9]
    )
    dcmstack = {"dcmmeta_affine": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "global": {}}
    for content in (
        {"Modality": "MR", "SliceTiming": [0.1, 0.2]},
        {"SliceTiming": [0.1]},
        {"axes": ["x"]},
        own,
        dcmstack,
    ):
        beside.write_text(json.dumps(content))
        with pytest.raises(CaseError, match=r"needs boxes; write MR_a\.csv beside it"):
            prompted(read_input(scan), scan)
    beside.write_text(json.dumps({"MR_b": [[1, 20, 7, 3, 30, 9]]}))
    with pytest.raises(CaseError, match="names no box of it; it has MR_b"):
        prompted(read_input(scan), scan)
    beside.write_text(json.dumps({"MR_a": [[1, 20, 7, 3, 30, 9]]}))
    assert prompted(read_input(scan), scan).boxes.tolist() == IN_VOLUME


def test_the_image_itself_is_not_taken_for_its_label_map(scan: Path) -> None:
    """Where it lies in the folder of label maps, beside its truth."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 20:31, 7:10] = 1
    nibabel.save(nibabel.nifti1.Nifti1Image(labels, AFFINE), scan.with_name("MR_a_gt.nii.gz"))
    assert prompted(read_input(scan), scan, Prompting(boxes_from=scan.parent)).boxes.tolist() == IN_VOLUME
    elsewhere = scan.parent.parent / "copies"  # of image and truth: the image's copy is no label map either
    shutil.copytree(scan.parent, elsewhere)
    assert prompted(read_input(scan), scan, Prompting(boxes_from=elsewhere)).boxes.tolist() == IN_VOLUME
    scan.with_name("MR_a_gt.nii.gz").unlink()
    with pytest.raises(CaseError, match="no label map of its name in"):
        prompted(read_input(scan), scan, Prompting(boxes_from=scan.parent))
    with pytest.raises(CaseError, match="--boxes-from names the image itself"):
        prompted(read_input(scan), scan, Prompting(boxes_from=scan))


def test_options_of_files_are_said_to_change_nothing_of_an_npz(tmp_path: Path) -> None:
    """Its boxes are in it."""
    np.savez(tmp_path / "2DBox_US_a.npz", imgs=np.zeros((9, 9), np.uint8), boxes=[[1, 1, 5, 5]])
    case = read_input(tmp_path / "2DBox_US_a.npz")
    (note,) = prompted(case, tmp_path / "2DBox_US_a.npz", Prompting(units="LPS")).notes[len(case.notes) :]
    assert "--box-units and --box-format" in str(note)
