"""SAM networks become model folders that `edge` runs like any other: boxed, prompt-free, normalised as trained."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edge.data.case import make_case
from edge.engines.model_folder import read_description
from edge.engines.runtime import load_engine
from edge.errors import ModelError, RunError
from edge.pipeline import segment
from edge.views.ladder import ViewLadder
from edge.views.prepare import prepare
from export.cli import app
from export.int8.add import Int8Options
from export.model_files.model import export_model
from export.model_files.options import ExportOptions
from export.model_files.sam import DecoderGraph, merged_sam
from tests.rounding import ROUNDING_F32, relative_difference
from train.networks.adapter import save_adapter, state_hash
from train.networks.build import public_state
from train.networks.checkpoint import save_atomically
from train.networks.parts import choose_trainable, lora_options, trained_beside_adapters
from train.recipe import load_recipe
from train.run import adapter_facts, sam_options
from train.sam_systems.map_task import EDGE_NORMALISATIONS
from train.sam_systems.network import Prompts, Sam, build_sam

SMALL = ["image_size=64", "encoder_blocks=1"]
RECIPES = {
    "nuinsseg-sam-vit-b": ["lora_blocks=[0]"],
    "nuinsseg-sam-vit-h": [],
    "nuinsseg-mobilesam": [],
    "brats-sam-vit-b": ["lora_rank=4"],
}
EXPECTED = {  # of those exported here: recipe -> normalisation, prompt
    "nuinsseg-sam-vit-b": ("sam", "none"),
    "nuinsseg-mobilesam": ("sam", "none"),
    "brats-sam-vit-b": ("z-score", "box"),
}
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
BOX = np.array([[10.0, 12.0, 50.0, 40.0]])


def trained(folder: Path, name: str, *overrides: str) -> Sam:
    """A base and an adapter in the folder, as a run leaves them; the network that they are."""
    recipe = load_recipe(name, [*SMALL, *RECIPES[name], *overrides])
    torch.manual_seed(0)
    network = build_sam(recipe.network, sam_options(recipe))
    state = {key: value.clone() for key, value in public_state(network).items()}
    save_atomically(state, folder / "base.pth")
    choose_trainable(network, recipe)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    beside = trained_beside_adapters(network)
    facts = adapter_facts(recipe)
    save_adapter(folder / "adapter", network, lora_options(recipe), state_hash(state), beside, facts)
    return network.eval()


@pytest.fixture(scope="module", params=EXPECTED)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Sam, Path]:
    """A recipe's name, its adapted network, and the model folder that `samedge export` made of base and adapter."""
    folder = tmp_path_factory.mktemp("exported")
    network = trained(folder, request.param)
    arguments = ["base.pth", "model", "--adapter", "adapter", "--name", "tiny", "--licence", "none"]
    places = [str(folder / word) if word in ("base.pth", "model", "adapter") else word for word in arguments]
    run = CliRunner().invoke(app, places)
    assert run.exit_code == 0, run.output
    parity = read_description(folder / "model").parity
    assert len(parity) == 2 and all(row["embedding_error"] < 1e-3 * row["embedding_scale"] for row in parity)
    return request.param, network, folder / "model"


@pytest.mark.slow
def test_the_exported_model_answers_as_the_adapted_network(exported: tuple[str, Sam, Path]) -> None:
    """The label map is where the network, fed by hand, says so; the folder says how to feed it."""
    name, network, model = exported
    description = read_description(model)
    assert (description.normalisation, description.prompt) == EXPECTED[name]
    assert description.input_size == 64 and description.made_from["network"] == load_recipe(name).network
    pixels = torch.from_numpy(prepare(IMAGE, 64, description.normalisation))[None]
    asked = Prompts(torch.tensor([0]), boxes=torch.from_numpy(BOX).float() if description.prompt == "box" else None)
    with torch.no_grad():
        logits = network(pixels, asked)
    whole = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear")[0].numpy()
    expected = whole[0] > 0 if len(whole) == 1 else whole[1] > whole[0]
    boxes = BOX if description.prompt == "box" else np.zeros((0, 4))
    labels = segment(make_case("2DBox_Microscopy_x", IMAGE, boxes), load_engine(model)).labels
    inside = np.zeros((64, 64), bool)
    inside[12:41, 10:51] = True
    where = inside if description.prompt == "box" else np.ones_like(inside)
    assert np.mean((labels == 1)[where] == expected[where]) > 0.99 and labels.max() <= 1
    assert 0 < expected[where].mean() < 1  # or the test would say little


@pytest.mark.slow
def test_the_command_runs_it_on_pictures_and_archives(
    exported: tuple[str, Sam, Path], tmp_path: Path, samedge: Callable[..., CompletedProcess[str]]
) -> None:
    """`samedge predict` with the folder alone: the same labels of a PNG and of a case; a box is asked for by name."""
    name, _, model = exported
    takes_boxes = EXPECTED[name][1] == "box"
    for place in ("in", "bare"):
        (tmp_path / place).mkdir()
        cv2.imwrite(str(tmp_path / place / "cell.png"), IMAGE[..., ::-1])
    np.savez(tmp_path / "in" / "2DBox_MR_1.npz", imgs=IMAGE, boxes=BOX if takes_boxes else np.zeros((0, 4)))
    if takes_boxes:
        (tmp_path / "in" / "cell.csv").write_text("10,12,50,40\n")
    run = samedge("predict", tmp_path / "in", tmp_path / "out", "--model", model, "-q")
    assert run.returncode == 0, run.stderr
    labels = [np.load(tmp_path / "out" / f"{case}.npz")["segs"] for case in ("cell", "2DBox_MR_1")]
    assert np.array_equal(*labels) and 0 < labels[0].mean() < 1
    if takes_boxes:
        bare = samedge("predict", tmp_path / "bare", tmp_path / "out2", "--model", model, "-q")
        assert bare.returncode == 1 and "write cell.csv beside it" in bare.stderr


@pytest.mark.slow
def test_a_prompt_free_model_labels_a_volume_slice_by_slice(exported: tuple[str, Sam, Path]) -> None:
    """Whatever boxes the case has; every slice is encoded."""
    name, _, model = exported
    if EXPECTED[name][1] == "box":
        pytest.skip("asks for boxes")
    engine = load_engine(model)
    volume = np.random.default_rng(1).integers(0, 256, (3, 40, 64), dtype=np.uint8)
    whole = segment(make_case("3DBox_MR_x", volume, np.array([[5, 5, 1, 9, 9, 1]])), engine)
    single = segment(make_case("2DBox_MR_x", np.repeat(volume[2][..., None], 3, -1), np.zeros((0, 4))), engine)
    assert whole.slices == 3 and np.array_equal(whole.labels[2], single.labels)


def test_two_channels_become_their_difference(tmp_path: Path) -> None:
    """What would be exported of nuinsseg-sam-vit-b: nuclei minus background, at the input's size, for any boxes."""
    trained(tmp_path, "nuinsseg-sam-vit-b")
    network, facts = merged_sam(tmp_path / "base.pth", tmp_path / "adapter")
    embedding = torch.randn(1, 256, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network.answer(embedding, Prompts(torch.tensor([0])))
        found = DecoderGraph(network, "none")(embedding, torch.zeros(2, 4))
    margin = torch.nn.functional.interpolate(logits[:, 1:] - logits[:, :1], size=(64, 64), mode="bilinear")[:, 0]
    assert relative_difference(found, margin.expand(2, -1, -1)) < ROUNDING_F32
    assert facts["prompt"] == "none" and facts["normalisation"] == "sam"


def test_one_channel_is_answered_as_it_is(tmp_path: Path) -> None:
    """What would be exported of nuinsseg-sam-vit-h: the same for any boxes; of images in 0 to 1."""
    trained(tmp_path, "nuinsseg-sam-vit-h")
    network, facts = merged_sam(tmp_path / "base.pth", tmp_path / "adapter")
    embedding = torch.randn(1, 256, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network.answer(embedding, Prompts(torch.tensor([0])))
        found = DecoderGraph(network, "none")(embedding, torch.zeros(2, 4))
    whole = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear")[:, 0]
    assert relative_difference(found, whole.expand(2, -1, -1)) < ROUNDING_F32
    assert facts["prompt"] == "none" and EDGE_NORMALISATIONS[facts["normalisation"]] == "min-max"


def test_what_a_model_folder_cannot_say_is_refused(tmp_path: Path) -> None:
    """Point prompts; and nothing is left behind."""
    trained(tmp_path, "nuinsseg-sam-vit-b", "prompt=point")
    with pytest.raises(ModelError, match="2 channels and prompt point"):
        export_model(tmp_path / "base.pth", tmp_path / "model", ExportOptions(adapter=tmp_path / "adapter"))
    assert not (tmp_path / "model").exists()


def test_what_a_sam_network_has_not_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    """Views and INT8 graphs, which only the other network's export makes."""
    trained(tmp_path, "nuinsseg-mobilesam")
    wanted: dict[str, dict[str, Any]] = {
        "--views": {"views": ViewLadder((56,), 0.72, 0.85)},
        "--calibration": {"int8": Int8Options(tmp_path)},
    }
    for option, given in wanted.items():
        with pytest.raises(RunError, match=f"a SAM network has whole frames and no INT8 graphs; leave {option} out"):
            export_model(
                tmp_path / "base.pth", tmp_path / "model", ExportOptions(adapter=tmp_path / "adapter", **given)
            )
    with pytest.raises(RunError, match="merged as it is; leave --adapter-scale out"):
        export_model(
            tmp_path / "base.pth", tmp_path / "model", ExportOptions(adapter=tmp_path / "adapter", adapter_scale=0.5)
        )
    assert not (tmp_path / "model").exists()
