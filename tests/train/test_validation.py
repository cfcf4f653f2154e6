"""A network that trains is validated as the runtime will use it."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from edge.data.case import make_case, write_case
from train.networks.litemedsam import LiteMedSAM
from train.networks.tiny_vit import WIDTHS, Block
from train.recipe import load_recipe
from train.records.display import silent
from train.tasks.views import make_view_task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A ball in a volume of 5 slices."""
    z, rows, columns = np.mgrid[:5, :48, :48]
    ball = (3 * (z - 2)) ** 2 + (rows - 24) ** 2 + (columns - 24) ** 2 < 100
    box = np.array([[13, 13, 0, 35, 35, 4]])
    image = np.where(ball, 200, 40).astype(np.uint8)
    for number in range(2):
        name = f"3DBox_CT_ball_{number}"
        write_case(tmp_path / f"{name}.npz", make_case(name, image, box, truth=ball.astype(np.uint8)))
    return tmp_path


def test_scans_that_are_held_out_are_validated_on(tmp_path: Path) -> None:
    """Cases of .nii.gz with their truth beside them; boxes are those around its labels, whatever their numbers."""
    labels = np.zeros((40, 40, 5), np.uint8)
    labels[10:22, 12:26, 1:4], labels[28:36, 28:36, 2] = 2, 5
    for number in range(10):
        for end, array in (("", np.where(labels > 0, 200, 40 + number)), ("_gt", labels)):
            image = nibabel.nifti1.Nifti1Image(array.astype(np.uint8), np.diag([-1.0, -1, 3, 1]))
            nibabel.save(image, tmp_path / f"CT_ball_{number}{end}.nii.gz")
    said: list[str] = []
    overrides = ["views={ 56 = 1 }", "walks={}", "validation_cases=9", "hold_out=0.3"]
    task = make_view_task(
        load_recipe("litemedsam-lora", overrides), [tmp_path], None, tmp_path / "cache", said.append, lambda *_: None
    )
    assert task.validates and not [line for line in said if "not validated" in line]
    assert len(task._cases) + len(task._data.used) == 10
    for case in task._cases.values():
        assert case.boxes.tolist() == [[10, 12, 1, 21, 25, 3], [28, 28, 2, 35, 35, 2]]
        assert case.truth is not None and case.truth.max() == 2


@pytest.mark.parametrize(("walks", "channels_differ"), [("walks={ 56 = 1 }", True), ("walks={}", False)])
def test_a_network_that_is_trained_to_walk_walks_when_it_is_validated(
    folder: Path, walks: str, channels_differ: bool
) -> None:
    """It is shown the neighbour's mask as the third channel; any other network is shown the slice three times."""
    recipe = load_recipe("litemedsam-lora", ["views={ 56 = 1 }", walks, "validation_cases=1", "compile=true"])
    task = make_view_task(recipe, [folder], folder, folder / "cache", silent, lambda *_: None)
    torch.manual_seed(0)  # whose network finds something on the middle slice
    network, differ = LiteMedSAM(), []

    def look(_encoder: torch.nn.Module, given: tuple[torch.Tensor]) -> None:
        differ.append(bool((given[0][:, 0] != given[0][:, 2]).any()))

    network.image_encoder.register_forward_pre_hook(look)
    assert task.validate(network).cases == 1
    assert any(differ) == channels_differ


def test_nothing_is_compiled_for_a_validation(folder: Path) -> None:
    """Whose views come in any number: each would be compiled anew."""
    recipe = load_recipe("litemedsam-lora", ["views={ 56 = 1 }", "walks={}", "validation_cases=1", "compile=true"])
    task = make_view_task(recipe, [folder], folder, folder / "cache", silent, lambda *_: None)
    network, compiled = LiteMedSAM(), []
    last = [module for module in network.image_encoder.modules() if isinstance(module, Block)][-1]
    last.compile(backend=lambda graph, _: compiled.append(graph) or graph.forward)
    task.validate(network)
    assert not compiled
    last(torch.zeros(1, WIDTHS[-1], 7, 7))
    assert compiled
