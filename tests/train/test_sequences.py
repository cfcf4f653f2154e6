"""BraTS-like subjects: any sequences, transverse slices by policy, cut to the brain, combined into one answer."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from edge.errors import CaseError
from train.optimisation.losses import map_loss
from train.recipe import Recipe, load_recipe
from train.sam_systems.batch import SamLoss, answer_targets, collate_sam
from train.sam_systems.sequence_files import choose_slices, common_size, find_subjects, prepare_slices, read_slice
from train.sam_systems.sequence_task import SequenceTask

SHAPE = (20, 24, 9)  # x, y, z in RAS


def write_subject(folder: Path, name: str, sequences: list[str], *, flipped: bool = False, slices: int = 4) -> None:
    """Brain at x 4 to 15, y 6 to 21; tumour on z 3 to 6 or the first of these, of 4, 12, 6 and 2 px."""
    folder.mkdir(parents=True, exist_ok=True)
    brain = np.zeros(SHAPE, np.float32)
    brain[4:16, 6:22, 1:8] = 50
    tumour = np.zeros(SHAPE, np.uint8)
    for z, (width, height) in list({3: (2, 2), 4: (3, 4), 5: (2, 3), 6: (1, 2)}.items())[:slices]:
        tumour[6 : 6 + width, 8 : 8 + height, z] = 4
    affine = np.eye(4)
    for number, sequence in enumerate(sequences):
        volume = brain * (number + 1) + 100.0 * (tumour > 0)
        _save(folder / f"{name}-{sequence}.nii.gz", volume.astype(np.float32), affine, flipped)
    _save(folder / f"{name}-seg.nii.gz", tumour, affine, flipped)


def _save(path: Path, volume: np.ndarray, affine: np.ndarray, flipped: bool) -> None:
    if flipped:  # the same anatomy stored from left to right and from top to bottom
        volume, affine = volume[::-1, :, ::-1], affine @ np.diag([-1, 1, -1, 1])
        affine[0, 3], affine[2, 3] = SHAPE[0] - 1, SHAPE[2] - 1
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


def recipe(*overrides: str) -> Recipe:
    small = ["image_size=32", "mask_px=32", "encoder_blocks=1", "lora_rank=4"]
    return load_recipe("brats-sam-vit-b", [*small, *overrides])


def test_subjects_are_found_flat_and_in_folders(tmp_path: Path) -> None:
    """Two sequences or four, BraTS 2020's underscores; a subject without a segmentation is none."""
    write_subject(tmp_path, "flat-01", ["t1c", "flair"])
    write_subject(tmp_path / "BraTS-2", "BraTS-2", ["t1n", "t1c", "t2f", "t2w"])
    (tmp_path / "BraTS-2" / "BraTS20_7_flair.nii.gz").write_bytes(b"")
    found = find_subjects([tmp_path])
    assert [(subject.name, list(subject.sequences)) for subject in found] == [
        ("BraTS-2", ["t1c", "t1n", "t2f", "t2w"]),
        ("flat-01", ["flair", "t1c"]),
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(CaseError, match="no <subject>-seg"):
        find_subjects([tmp_path / "empty"])


def test_slices_are_transverse_and_cut_to_the_brain_however_stored(tmp_path: Path) -> None:
    """Brain 16 rows x 12 columns; front up: y 8 is 14 rows above the brain's lower edge; right is left."""
    for name, flipped in (("a", False), ("b", True)):
        write_subject(tmp_path / name, name, ["t1", "t2"], flipped=flipped)
        slices = prepare_slices(find_subjects([tmp_path / name]), tmp_path / "cache")
        assert [(part.index, part.area) for part in slices] == [(3, 4), (4, 12), (5, 6), (6, 2)]
        assert common_size(slices) == (16, 12)
        images, tumour = read_slice(slices[1], (16, 12))
        assert images.shape == (2, 16, 12) and images.min() > 0
        rows, columns = np.nonzero(tumour)
        # y 8..11 -> rows from the front 23 - y = 15..12, the brain begins at row 23 - 21 = 2
        assert (rows.min(), rows.max()) == (10, 13)
        # x 6..8 -> columns from the right 19 - x = 13..11, the brain begins at column 19 - 15 = 4
        assert (columns.min(), columns.max()) == (7, 9)
    again = prepare_slices(find_subjects([tmp_path / "b"]), tmp_path / "cache", say=pytest.fail)
    assert again == slices


def test_policies_choose_slices(tmp_path: Path) -> None:
    """Largest area, every second, all, one by chance of each subject."""
    for name in ("a", "b"):
        write_subject(tmp_path, name, ["t1"])
    slices = prepare_slices(find_subjects([tmp_path]), tmp_path / "cache")
    chosen = {policy: choose_slices(slices, policy) for policy in ("max", "every-second", "all", "random")}
    assert [[part.index for part in parts] for parts in chosen["max"]] == [[4], [4]]
    assert [parts[0].index for parts in chosen["every-second"]] == [3, 5, 3, 5]
    assert len(chosen["all"]) == 8
    assert [[part.index for part in parts] for parts in chosen["random"]] == [[3, 4, 5, 6]] * 2


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    """Another grid, not NIfTI."""
    write_subject(tmp_path / "a", "a", ["t1"])
    _save(tmp_path / "a" / "a-t2.nii.gz", np.ones((20, 24, 8), np.float32), np.eye(4), False)
    with pytest.raises(CaseError, match="a: sequences and seg must be on one grid"):
        prepare_slices(find_subjects([tmp_path / "a"]), tmp_path / "cache")
    write_subject(tmp_path / "b", "b", ["t1"])
    (tmp_path / "b" / "b-t1.nii.gz").write_bytes(b"no gzip at all")
    with pytest.raises(CaseError, match="cannot be read as NIfTI"):
        prepare_slices(find_subjects([tmp_path / "b"]), tmp_path / "cache")


def test_sequences_are_z_scored_and_their_answers_averaged(tmp_path: Path) -> None:
    """Each sequence by its own mean and deviation; one target whose logits are the mean of two answers."""
    write_subject(tmp_path, "a", ["t1", "t2"])
    task = SequenceTask(recipe(), find_subjects([tmp_path]), find_subjects([tmp_path]), tmp_path / "cache")
    sample = task.samples(0)[0]
    assert sample.images.shape == (2, 3, 32, 32) and sample.classes.shape == (1, 32, 32)
    for image in sample.images:
        inside = image[:, :, :24]  # 16 x 12 px into 32: 24 columns, the rest is padding
        assert abs(inside.mean()) < 1e-3 and inside.std() == pytest.approx(1, abs=1e-2) and not image[..., 24:].any()
    rows, columns = np.nonzero(sample.classes[0])
    box = sample.boxes[0]  # columns 7 to 9 and rows 10 to 13, doubled
    assert box.tolist() == [14, 20, 18, 26] and columns.min() == 14 and rows.min() == 20
    batch = collate_sam([sample, sample])
    assert batch.target_of_answer.tolist() == [0, 0, 1, 1] and batch.image_of_answer.tolist() == [0, 1, 2, 3]

    class Answers(torch.nn.Module):
        def forward(self, images: torch.Tensor, prompts: object) -> torch.Tensor:
            return torch.arange(len(images), dtype=torch.float32)[:, None, None, None].expand(-1, 1, 8, 8)

    assert answer_targets(Answers(), batch)[:, 0, 0, 0].tolist() == [0.5, 2.5]  # type: ignore[arg-type]
    expected = map_loss("dice+ce", {"dice": 0.5, "ce": 0.5})(
        torch.tensor([0.5, 2.5])[:, None, None, None].expand(-1, 1, 32, 32), batch.classes, batch.counted
    )
    assert SamLoss(Answers(), recipe())(batch).item() == pytest.approx(expected.mean().item())  # type: ignore[arg-type]


def test_validation_is_even_over_subjects(tmp_path: Path) -> None:
    """Asked for six slices of subjects that have four, one and four: two, one and two."""
    for name, count in (("a", 4), ("b", 1), ("c", 4)):
        write_subject(tmp_path, name, ["t1"], slices=count)
    subjects = find_subjects([tmp_path])
    task = SequenceTask(recipe("validation_cases=6"), subjects, subjects, tmp_path / "cache")

    class Nothing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.device = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: torch.Tensor, prompts: object) -> torch.Tensor:
            return torch.full((len(images), 1, 8, 8), -1.0)

    rows = task.validate(Nothing()).rows  # type: ignore[arg-type]
    assert [row.name for row in rows] == ["a-003", "a-006", "b-003", "c-003", "c-006"]
