"""What a container leaves is read as a stranger's."""

import os
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge.challenge.submission.mounts import Mounts, read_output
from edge.data.case import Case, read_case, write_case
from edge.data.npz import read_npz, write_npz
from edge.errors import CaseError

NAME = "2DBox_US_a"


@pytest.fixture
def case_path(tmp_path: Path) -> Path:
    """A 4 x 6 image with one box, and its truth."""
    path = tmp_path / f"{NAME}.npz"
    truth = np.zeros((4, 6), np.uint8)
    write_case(path, Case(NAME, np.zeros((4, 6, 3), np.uint8), np.array([[0.0, 0, 2, 2]]), truth=truth))
    return path


@pytest.fixture
def mounts(tmp_path: Path) -> Mounts:
    return Mounts(tmp_path / "mounts")


def leave(mounts: Mounts, **arrays: np.ndarray) -> Path:
    path = mounts.outputs / f"{NAME}.npz"
    write_npz(path, arrays)
    return path


def test_a_case_is_put_alone_and_without_its_truth(mounts: Mounts, case_path: Path) -> None:
    """An old case goes, the team's other files stay; the truth never comes along."""
    (mounts.inputs / "2DBox_US_old.npz").write_bytes(b"")
    (mounts.inputs / "cache.bin").write_bytes(b"")
    mounts.put(case_path)
    assert sorted(path.name for path in mounts.inputs.iterdir()) == [f"{NAME}.npz", "cache.bin"]
    assert sorted(read_npz(mounts.inputs / f"{NAME}.npz", ["imgs", "boxes", "gts"])) == ["boxes", "imgs"]


def test_a_case_is_put_whatever_its_boxes_are_and_whatever_was_made_of_the_folders(
    mounts: Mounts, tmp_path: Path
) -> None:
    """Records in pickles, an empty spacing: byte for byte; folders that a container closed are open again."""
    path = tmp_path / f"{NAME}.npz"
    records = np.array([{"x_min": 0, "y_min": 0, "x_max": 2, "y_max": 2}], dtype=object)
    np.savez(path, imgs=np.zeros((4, 6), np.uint8), boxes=records, spacing=np.array(None), gts=np.zeros((4, 6)))
    for folder in (mounts.inputs, mounts.outputs):
        folder.chmod(0o500)
    mounts.put(path)
    with zipfile.ZipFile(path) as case, zipfile.ZipFile(mounts.inputs / path.name) as copy:
        assert sorted(copy.namelist()) == ["boxes.npy", "imgs.npy", "spacing.npy"]
        assert all(copy.read(name) == case.read(name) for name in copy.namelist())
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (mounts.inputs, mounts.outputs)} == {0o777}
    with zipfile.ZipFile(path, "w") as case:  # as some archives have it
        case.writestr("folder/imgs.npy", b"1")
        case.writestr("folder/gts.npy", b"2")
    mounts.put(path)
    with zipfile.ZipFile(mounts.inputs / path.name) as copy:
        assert copy.namelist() == ["imgs.npy"] and copy.read("imgs.npy") == b"1"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CaseError, match=f"{NAME}: cannot be read"):
        mounts.put(path)


def test_a_link_laid_where_the_next_case_comes_is_not_written_through(mounts: Mounts, case_path: Path) -> None:
    """A container may lay `inputs/<case>.npz -> a file of ours`; the file stays as it was."""
    ours = case_path.with_name("precious")
    ours.write_text("ours")
    (mounts.inputs / f"{NAME}.npz").symlink_to(ours)
    mounts.put(case_path)
    assert ours.read_text() == "ours"
    assert not (mounts.inputs / f"{NAME}.npz").is_symlink()


def test_an_output_is_taken_out_and_the_rest_stays(mounts: Mounts, case_path: Path) -> None:
    """The labels, their dtype in the file; input and output are gone, a cache is not."""
    mounts.put(case_path)
    leave(mounts, segs=np.ones((4, 6), np.int64))
    (mounts.outputs / "cache").mkdir()
    output = mounts.take(read_case(case_path))
    assert output.problem is None and output.dtype == "int64"
    assert output.labels is not None and output.labels.dtype == np.uint16 and output.labels.all()
    assert [path.name for path in mounts.outputs.iterdir()] == ["cache"]
    assert list(mounts.inputs.iterdir()) == []


def test_an_output_that_is_a_link_is_not_followed(mounts: Mounts, case_path: Path, tmp_path: Path) -> None:
    """Not even where it leads to a label map that would do; link and input are removed."""
    write_npz(tmp_path / "good.npz", {"segs": np.ones((4, 6), np.uint8)})
    (mounts.outputs / f"{NAME}.npz").symlink_to(tmp_path / "good.npz")
    output = mounts.take(read_case(case_path))
    assert output.labels is None and "symbolic link" in str(output.problem)
    assert list(mounts.outputs.iterdir()) == [] and (tmp_path / "good.npz").exists()


def test_a_link_deep_in_the_folder_is_removed_and_costs_nothing(mounts: Mounts, case_path: Path) -> None:
    """Beside a good output, two folders down, as caches have them."""
    leave(mounts, segs=np.ones((4, 6), np.uint8))
    (mounts.outputs / "a/b").mkdir(parents=True)
    (mounts.outputs / "a/b/way-out").symlink_to("/")
    output = mounts.take(read_case(case_path))
    assert output.problem is None and output.labels is not None and output.labels.sum() == 24
    assert not (mounts.outputs / "a/b/way-out").is_symlink() and Path("/etc").is_dir()


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"seg": np.ones((4, 6), np.uint8)}, "no key 'segs' (it has 'seg')"),
        ({"segs": np.ones((6, 4), np.uint8)}, "segs must have shape (4, 6), got (6, 4)"),
        ({"segs": np.full((4, 6), 0.5)}, "whole numbers"),
        ({"segs": np.full((4, 6), 2, np.uint8)}, "segs has label 2, the case has 1 boxes"),
        ({"segs": np.zeros((400, 600), np.uint8)}, "declares"),
    ],
)
def test_a_wrong_output_is_told(mounts: Mounts, case_path: Path, arrays: dict[str, np.ndarray], expected: str) -> None:
    """Key, shape, values, labels, and far more bytes than the case has pixels: one line each."""
    leave(mounts, **arrays)
    output = mounts.take(read_case(case_path))
    assert output.labels is None and expected in str(output.problem)


def test_what_is_no_file_is_not_opened(tmp_path: Path, case_path: Path) -> None:
    """A named pipe would wait for ever; a folder; nothing at all."""
    case = read_case(case_path)
    pipe, folder = tmp_path / "pipe.npz", tmp_path / "folder.npz"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder):
        assert "not a regular file" in str(read_output(path, case).problem)
    assert "no output" in str(read_output(tmp_path / "absent.npz", case).problem)


def test_names_that_no_terminal_can_show_are_made_printable(mounts: Mounts, case_path: Path) -> None:
    """Line ends and bytes that are no text, in the name of what is there instead."""
    (mounts.outputs / os.fsdecode(b"a\n\xff")).symlink_to("/")
    assert "(the folder has a??)" in str(mounts.take(read_case(case_path)).problem)


def test_whatever_else_goes_wrong_ends_nothing(
    mounts: Mounts, case_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody thought of is told like the others."""

    def surprise(*_: object, **__: object) -> None:
        raise ZeroDivisionError("odd file")

    leave(mounts, segs=np.zeros((4, 6), np.uint8))
    monkeypatch.setattr("edge.challenge.submission.mounts.read_npz", surprise)
    assert mounts.take(read_case(case_path)).problem == "the output cannot be read (ZeroDivisionError: odd file)"


def test_a_pickle_is_refused(mounts: Mounts, case_path: Path) -> None:
    """Objects in `segs` are never loaded."""
    np.savez(mounts.outputs / f"{NAME}.npz", segs=np.array([{}], dtype=object))
    assert "pickled" in str(mounts.take(read_case(case_path)).problem)
