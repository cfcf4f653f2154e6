"""Cases of one name in several folders are kept apart; a validation that there cannot be is never silent."""

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edge.data.case import make_case, write_case
from edge.errors import CaseError
from train.data.cases import distinct_names, find_sources
from train.data.preparing import prepare
from train.recipe import load_recipe
from train.records.display import silent
from train.run import write_cases
from train.sam_systems.sequence_files import find_subjects
from train.tasks.build import make_task
from train.tasks.views import make_view_task
from train.validation import CaseRow, summarize

NOTHING = np.zeros((50, 60), np.uint8)
DISC = cv2.circle(NOTHING.copy(), (30, 25), 12, 1, -1)


def write_picture(folder: Path, name: str, seed: int = 0, labels: npt.NDArray = DISC) -> None:
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.png"), np.random.default_rng(seed).integers(0, 255, (50, 60), dtype=np.uint8))
    cv2.imwrite(str(folder / f"{name}_gt.png"), labels)


@pytest.fixture
def sites(tmp_path: Path) -> list[Path]:
    """Two hospitals that number alike."""
    folders = [tmp_path / "siteA", tmp_path / "siteB"]
    for seed, folder in enumerate(folders):
        for number in range(8):
            write_picture(folder, f"2DBox_US_A_{number}", seed)
    return folders


def test_cases_of_one_name_are_kept_apart_by_their_folder(tmp_path: Path, sites: list[Path]) -> None:
    """In prepared data and its lines about broken ones; in one folder by the whole path."""
    (sites[0] / "2DBox_US_A_7.npz").write_bytes(b"broken")
    sources = find_sources(sites)
    twins = [str(sites[0] / "2DBox_US_A_7.npz"), str(sites[0] / "2DBox_US_A_7.png")]
    names = [f"siteA/2DBox_US_A_{number}" for number in range(7)]
    assert distinct_names(sources) == [*names, *twins, *(f"siteB/2DBox_US_A_{number}" for number in range(8))]
    assert distinct_names(sources[:3]) == [source.stem for source in sources[:3]]
    data = prepare(sites, tmp_path / "prepared")
    assert [entry.name for entry in data.cases] == [f"2DBox_US_A_{number}" for number in range(8)] * 2
    assert data.objects[:, 0].tolist() == list(range(16))
    assert [line.split(":")[0] for line in data.broken] == twins[:1]
    assert not np.array_equal(data.slice(0, 0)[0], data.slice(8, 0)[0])


def test_the_side_of_a_name_is_that_of_all_who_have_it(tmp_path: Path, sites: list[Path]) -> None:
    """Held out together, each validated on under a name of its own; all counted."""
    recipe = load_recipe("litemedsam-lora", ["hold_out=0.5", "validation_cases=100", "walks={}"])
    task = make_view_task(recipe, sites, None, tmp_path / "cache", silent, silent)
    names = set(task._cases)
    in_a = {name for name in names if name.startswith("siteA/")}
    assert 0 < len(in_a) < 8
    assert names == in_a | {name.replace("siteA", "siteB") for name in in_a}
    assert task.facts.cases == {"US": 16 - len(names)}
    images = [case.image for case in task._cases.values()]
    assert not np.array_equal(images[0], images[len(in_a)])


@pytest.mark.parametrize(("kind", "why"), [("empty", "its truth holds no object"), ("no boxes", "boxes holds no box")])
def test_a_folder_with_nothing_to_validate_on_is_an_error_that_says_why(tmp_path: Path, kind: str, why: str) -> None:
    """Empty truths; volumes without boxes. Before anything is trained, for any task."""
    write_picture(tmp_path / "data", "2DBox_US_A_1")
    if kind == "empty":
        write_picture(tmp_path / "val", "2DBox_US_A_1", labels=NOTHING)
    else:
        (tmp_path / "val").mkdir()
        volume = make_case("3DBox_CT_B_1", np.tile(DISC, (5, 1, 1)), np.zeros((0, 6)), truth=np.tile(DISC, (5, 1, 1)))
        write_case(tmp_path / "val" / "3DBox_CT_B_1.npz", volume)
    lines: list[str] = []
    recipe = load_recipe("litemedsam-lora", ["validation_cases=5", "walks={}"])
    with pytest.raises(CaseError, match=f"val: no case to validate on; [23]DBox_.*: .*{why}"):
        make_task(recipe, [tmp_path / "data"], tmp_path / "val", tmp_path / "cache", None, lines.append)
    assert any(line.startswith("not validated on: ") and why in line for line in lines)


def test_label_maps_that_hold_nothing_are_no_validation_either(tmp_path: Path) -> None:
    """The nuclei recipes; the numbers that are there are named where others are wanted."""
    write_picture(tmp_path / "data", "2DBox_Microscopy_A_1")
    write_picture(tmp_path / "val", "2DBox_Microscopy_A_2", labels=DISC * np.uint8(255))
    lines: list[str] = []
    recipe = load_recipe("nuinsseg-sam-vit-b", ["target=1", "validation_cases=5"])
    with pytest.raises(CaseError, match="val: nothing in it to validate on"):
        make_task(recipe, [tmp_path / "data"], tmp_path / "val", tmp_path / "cache", None, lines.append)
    assert lines == ["left out: 2DBox_Microscopy_A_2: its label map holds only 255 where target=1"]


def test_a_share_that_takes_no_case_is_told(tmp_path: Path) -> None:
    """One case only: trained on, with a line about the validation that there is not."""
    write_picture(tmp_path / "data", "2DBox_US_A_1")
    lines: list[str] = []
    recipe = load_recipe("litemedsam-lora", ["validation_cases=5", "hold_out=0.01", "walks={}"])
    task = make_task(recipe, [tmp_path / "data"], None, tmp_path / "cache", None, lines.append)
    assert not task.validates
    assert lines[-1].startswith("no validation: hold_out=0.01 takes none of the cases; give --val")


def test_subjects_of_one_name_in_two_folders_are_an_error(tmp_path: Path) -> None:
    """One's segmentation would be laid over the other's image."""
    for site in ("siteA", "siteB"):
        (tmp_path / site).mkdir()
        for sequence in ("flair", "seg"):
            (tmp_path / site / f"BraTS-1-{sequence}.nii.gz").touch()
    with pytest.raises(CaseError, match=r"BraTS-1: .*siteA.* and .*siteB.* are both its flair; rename"):
        find_subjects([tmp_path / "siteA", tmp_path / "siteB"])
    assert len(find_subjects([tmp_path / "siteA"])) == 1


def test_names_that_are_no_text_are_held_out_and_written(tmp_path: Path) -> None:
    """As unpacked from a ZIP that Windows made, with a comma too: prepared data, sides, table of the best cases."""
    name = os.fsdecode(b"2DBox_US_A_caf\xe9, 1")
    write_picture(tmp_path / "data", "2DBox_US_A_1")
    for end in (".png", "_gt.png"):
        (tmp_path / "data" / f"2DBox_US_A_1{end}").rename(tmp_path / "data" / f"{name}{end}")
    assert prepare([tmp_path / "data"], tmp_path / "prepared").split(1.0)[1] == [name]
    write_cases(tmp_path / "best.csv", summarize([CaseRow(name, "US", {"dice": 0.5})]))
    with (tmp_path / "best.csv").open(newline="", encoding="utf-8") as file:
        assert [row["case"] for row in csv.DictReader(file)] == [r"2DBox_US_A_caf\udce9, 1"]
