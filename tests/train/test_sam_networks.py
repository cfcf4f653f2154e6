"""SAM ViT-B, ViT-H and MobileSAM: the papers' counts, public layouts, adapters that merge exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edge.errors import ModelError, RunError
from tests.rounding import ROUNDING_F32, ROUNDING_F64, relative_difference
from train.networks.adapter import load_merged, save_adapter, state_hash
from train.networks.build import build_network, load_base, public_state
from train.networks.checkpoint import load_weights, save_atomically
from train.networks.lora import LoraOptions, add_lora
from train.networks.parts import (
    choose_trainable,
    count_parameters,
    lora_options,
    set_training_mode,
    trained_beside_adapters,
)
from train.networks.sam_modeling import sam_modeling
from train.recipe import Recipe, load_recipe
from train.run import sam_options
from train.sam_systems.batch import SamLoss, SamSample, collate_sam
from train.sam_systems.network import Prompts, Sam, SamOptions, build_sam, fit_mask_tokens

SMALL = ["image_size=64", "encoder_blocks=1"]
PUBLIC_KEYS = {  # tensors in the public files: Hugging Face's conversion lists them; counted in segment-anything
    "sam-vit-b": 314,
    "sam-vit-h": 594,
}
RECIPES = {
    "nuinsseg-sam-vit-b": ["lora_blocks=[0]"],
    "nuinsseg-sam-vit-h": [],
    "nuinsseg-mobilesam": [],
    "brats-sam-vit-b": ["lora_rank=8"],
}


def on_meta(recipe: Recipe) -> Sam:
    """The recipe's network with its adapters, without memory for a single weight."""
    with torch.device("meta"):
        network = build_network(recipe.network, sam_options(recipe))
        choose_trainable(network, recipe)
    assert isinstance(network, Sam)
    return network


@pytest.mark.parametrize(
    ("name", "total", "trainable"),
    [
        ("nuinsseg-sam-vit-b", 93_595_151 + 49_152 + 23_552, 49_152 + 23_552 + 6_220 + 626_755),
        ("nuinsseg-sam-vit-h", 643_712_048, 2_621_440 + 4_064_560),
        ("nuinsseg-mobilesam", 10_130_092 + 124_064 + 257, 124_064 + 257),
    ],
)
def test_the_papers_counts_to_the_last_parameter(name: str, total: int, trainable: int) -> None:
    """705,679; 6,686,000 of 643,712,048; 124,321 of 10,254,413."""
    assert count_parameters(on_meta(load_recipe(name))) == (total, trainable)


@pytest.mark.parametrize("rank", [64, 128, 256])
def test_brats_trains_two_adapters_in_each_of_twelve_blocks(rank: int) -> None:
    """q and v, each r (768 + 768), in 12 blocks: 36,864 r."""
    recipe = load_recipe("brats-sam-vit-b", [f"lora_rank={rank}"])
    by_hand = 12 * 2 * rank * (768 + 768)
    assert by_hand == {64: 2_359_296, 128: 4_718_592, 256: 9_437_184}[rank]
    assert count_parameters(on_meta(recipe)) == (93_735_472 + by_hand, by_hand)


def test_parts_of_the_count_are_the_papers() -> None:
    """Encoder 49,152 = 4 blocks x 2 x 4 x 1536; decoder 23,552 = 2 x 4,096 (self) + 5 x 3,072 (to and fro, final)."""
    network = on_meta(load_recipe("nuinsseg-sam-vit-b"))
    sizes = {name: p.numel() for name, p in network.named_parameters() if p.requires_grad}

    def share(start: str, lora: bool) -> int:
        return sum(size for name, size in sizes.items() if name.startswith(start) and (".lora_" in name) == lora)

    assert share("image_encoder", True) == 49_152 and share("mask_decoder", True) == 23_552
    assert share("prompt_encoder", False) == 6_220 and share("mask_decoder", False) == 626_755
    assert {name.split(".")[2] for name in sizes if "image_encoder.blocks" in name} == {"0", "1", "10", "11"}


@pytest.mark.parametrize(("name", "keys"), PUBLIC_KEYS.items())
def test_the_layout_is_segment_anythings_own(name: str, keys: int) -> None:
    """Key by key and shape by shape what its `Sam` has, whatever the input's size; no other key."""
    sam = sam_modeling()
    with torch.device("meta"):
        ours = build_sam(name, SamOptions(image_px=256))
        public = build_sam(name)
        theirs = sam.Sam(public.image_encoder, public.prompt_encoder, public.mask_decoder)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    assert len(shapes) == keys
    depth = {"sam-vit-b": 12, "sam-vit-h": 32}[name]
    assert shapes["image_encoder.pos_embed"][1:3] == (64, 64)
    assert shapes[f"image_encoder.blocks.{depth - 1}.attn.rel_pos_h"][0] == 127  # a global block: 2 x 64 - 1


def test_mobilesams_layout_has_its_classifier_and_strided_patches() -> None:
    """What mobile_sam.pt holds beside LiteMedSAM's: norm_head, head of 1000 classes, 3x3 patch convolutions."""
    with torch.device("meta"):
        mobile = {key: tuple(value.shape) for key, value in build_sam("mobilesam").state_dict().items()}
        lite = {key: tuple(value.shape) for key, value in build_network("litemedsam").state_dict().items()}
    assert {key: mobile[key] for key in mobile.keys() - lite.keys()} == {
        "image_encoder.norm_head.weight": (320,),
        "image_encoder.norm_head.bias": (320,),
        "image_encoder.head.weight": (1000, 320),
        "image_encoder.head.bias": (1000,),
    }
    changed = {key for key in lite if mobile[key] != lite[key]}
    assert changed == {"image_encoder.patch_embed.seq.0.c.weight", "image_encoder.patch_embed.seq.2.c.weight"}
    assert mobile["image_encoder.patch_embed.seq.0.c.weight"] == (32, 3, 3, 3)


def test_a_public_file_loads_strictly_and_says_what_does_not_fit(tmp_path: Path) -> None:
    """Every key or nothing; another network's file is named key by key."""
    torch.manual_seed(0)
    mobile = build_sam("mobilesam", SamOptions(64, head="conv"))
    state = {key: torch.randn_like(value) for key, value in public_state(mobile).items() if value.is_floating_point()}
    state = {**public_state(mobile), **state}
    load_base(mobile, state, "mobile_sam.pt")
    assert torch.equal(mobile.image_encoder.head.weight, state["image_encoder.head.weight"])
    del state["image_encoder.head.bias"]
    with pytest.raises(ModelError, match=r"1 missing: image_encoder\.head\.bias"):
        load_base(mobile, state, "mobile_sam.pt")
    with pytest.raises(ModelError, match="does not fit Sam"):
        load_base(mobile, public_state(build_sam("sam-vit-b", SamOptions(64, 1))), "sam_vit_b.pth")


def test_other_numbers_of_masks_begin_as_the_public_ones() -> None:
    """Two outputs take tokens 0 to 2; five repeat the last; and both networks load."""
    torch.manual_seed(0)
    state = build_sam("sam-vit-b", SamOptions(64, 1)).state_dict()
    for channels, expected in ((2, [0, 1, 2]), (5, [0, 1, 2, 3, 3, 3])):
        fitted = fit_mask_tokens(state, channels)
        assert torch.equal(
            fitted["mask_decoder.mask_tokens.weight"], state["mask_decoder.mask_tokens.weight"][expected]
        )
        stem = "mask_decoder.output_hypernetworks_mlps."
        assert torch.equal(fitted[f"{stem}{channels}.layers.0.weight"], state[f"{stem}{expected[-1]}.layers.0.weight"])
        load_base(build_sam("sam-vit-b", SamOptions(64, 1, channels)), state, "base")


def test_the_encoder_is_segment_anythings_own_at_1024_px() -> None:
    """One windowed block, learned positions: its own forward pass gives the same; another size resizes them."""
    torch.manual_seed(0)
    network = build_sam("sam-vit-b", SamOptions(1024, 1)).eval()
    torch.nn.init.normal_(network.image_encoder.pos_embed, std=0.5)
    image = torch.randn(1, 3, 1024, 1024)
    with torch.no_grad():
        assert relative_difference(network.encode(image), network.image_encoder(image)) < ROUNDING_F32
        assert network.encode(image[..., :128, :128]).shape == (1, 256, 8, 8)


def test_answers_are_segment_anythings_own() -> None:
    """A box, a point, and two masks without any prompt: the mask decoder's own forward gives the same."""
    torch.manual_seed(0)
    embedding = torch.randn(1, 256, 8, 8)
    box, point = torch.tensor([[10.0, 5.0, 70.0, 80.0]]), torch.tensor([[[30.0, 40.0]]])
    asked = [
        (1, Prompts(torch.tensor([0]), boxes=box)),
        (1, Prompts(torch.tensor([0]), points=point, point_labels=torch.ones(1, 1))),
        (2, Prompts(torch.tensor([0]))),
    ]
    for channels, prompts in asked:
        network = build_sam("sam-vit-b", SamOptions(128, 1, channels)).eval()
        points = None if prompts.points is None else (prompts.points, prompts.point_labels)
        with torch.no_grad():
            sparse, dense = network.prompt_encoder(points=points, boxes=prompts.boxes, masks=None)
            positions = network.prompt_encoder.get_dense_pe()
            expected, _ = network.mask_decoder(embedding, positions, sparse, dense, channels > 1)
            assert relative_difference(network.answer(embedding, prompts), expected) < ROUNDING_F32
        assert expected.shape == (1, channels, 32, 32)


def adapted(name: str, *overrides: str) -> tuple[Sam, Recipe, dict[str, Tensor]]:
    """A small network of a recipe with everything that trains moved away from its start, and its base."""
    recipe = load_recipe(name, [*SMALL, *RECIPES[name], *overrides])
    torch.manual_seed(0)
    network = build_network(recipe.network, sam_options(recipe))
    base = {key: value.clone() for key, value in public_state(network).items()}
    choose_trainable(network, recipe)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    assert isinstance(network, Sam)
    return network.eval(), recipe, base


def saved_and_merged(folder: Path, network: Sam, recipe: Recipe, base: dict[str, Tensor]) -> Sam:
    """The network that base and adapter files make."""
    save_atomically(base, folder / "base.pth")
    made_for = {"network": recipe.network, "channels": recipe.channels}
    beside = trained_beside_adapters(network)
    save_adapter(folder / "adapter", network, lora_options(recipe), state_hash(base), beside, made_for)
    merged = build_sam(recipe.network, sam_options(recipe)).eval()
    load_weights(merged, load_merged(folder / "base.pth", folder / "adapter"), "merged")
    return merged


@pytest.mark.parametrize("name", RECIPES)
def test_merged_equals_unmerged_after_a_save_and_a_load(tmp_path: Path, name: str) -> None:
    """Each recipe's adapters, and what trains in full beside them."""
    network, recipe, base = adapted(name)
    merged = saved_and_merged(tmp_path, network, recipe, base)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[4.0, 5.0, 40.0, 50.0], [10.0, 10.0, 60.0, 30.0]])
    prompts = Prompts(torch.arange(2), boxes=None if recipe.head == "conv" else boxes)
    with torch.no_grad():
        expected = network(images, prompts)
        assert relative_difference(merged(images, prompts), expected) < ROUNDING_F32
        load_base(merged, base, "base")
        assert relative_difference(merged(images, prompts), expected) > 1e-2  # or the test could not fail


def test_layers_that_train_in_full_and_are_adapted_merge_and_keep_their_bases_statistics(tmp_path: Path) -> None:
    """MobileSAM's whole encoder beside its adapters: both count; batch norms do not train, whatever they see."""
    network, recipe, base = adapted("nuinsseg-mobilesam", 'train_beside=["semantic_head", "image_encoder"]')
    images, prompts = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)), Prompts(torch.arange(2))
    with torch.no_grad():
        before = network(images, prompts)
        set_training_mode(network)
        network(images, prompts)
        expected = network.eval()(images, prompts)
        assert torch.equal(expected, before)
        assert all(torch.equal(value, base[name]) for name, value in network.state_dict().items() if ".bn." in name)
        merged = saved_and_merged(tmp_path, network, recipe, base)
        assert relative_difference(merged(images, prompts), expected) < ROUNDING_F32


def test_an_adapter_on_q_and_v_leaves_k_alone() -> None:
    """The middle third of the fused layer answers as the base's, q and v do not; in float64."""
    network, _, base = adapted("brats-sam-vit-b")
    x = torch.randn(3, 768, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    key = "image_encoder.blocks.0.attn.qkv"
    with torch.no_grad():
        found = network.get_submodule(key).double()(x)
        expected = x @ base[f"{key}.weight"].double().T + base[f"{key}.bias"].double()
    for third, changes in enumerate((True, False, True)):
        ours, theirs = (values[:, 768 * third : 768 * (third + 1)] for values in (found, expected))
        difference = relative_difference(ours, theirs)
        assert difference > 1e-2 if changes else difference < ROUNDING_F64


@pytest.mark.parametrize("name", RECIPES)
def test_a_gradient_reaches_what_trains_and_nothing_else(name: str) -> None:
    """One forward and backward; the unused classifier alone gets none."""
    network, recipe, _ = adapted(name)
    set_training_mode(network)
    boxes = torch.tensor([[4.0, 5.0, 40.0, 50.0]]) if recipe.prompt == "box" else None
    network(torch.randn(1, 3, 64, 64), Prompts(torch.arange(1), boxes=boxes)).square().mean().backward()
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    reached = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    dry = {name for name in trained - reached if "image_encoder" in name or ".transformer." in name}
    unused = {"image_encoder.head.lora_A.default.weight", "image_encoder.head.lora_B.default.weight"}
    assert reached <= trained and dry <= unused
    assert any("image_encoder" in name for name in reached)


def test_vit_h_of_two_blocks_goes_forward_and_backward() -> None:
    """Its recipe's loss on two images: a gradient in both blocks' adapters, the prompt encoder and the decoder."""
    network, recipe, _ = adapted("nuinsseg-sam-vit-h", "encoder_blocks=2")
    set_training_mode(network)
    rng = np.random.default_rng(0)
    samples = [
        SamSample(
            images=rng.normal(size=(1, 3, 64, 64)).astype(np.float32),
            classes=rng.integers(0, 2, (1, 32, 32)),
            counted=np.ones((32, 32), bool),
            points=np.zeros((1, 0, 2), np.float32),
            boxes=np.zeros((1, 0), np.float32),
        )
        for _ in range(2)
    ]
    loss = SamLoss(network, recipe)(collate_sam(samples))
    loss.backward()
    assert 0.1 < loss.item() < 10  # the cross-entropy of a coin is 0.69
    reached = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    adapters = {name for name in reached if ".lora_" in name}
    assert len(adapters) == 4 and {name.split(".")[2] for name in adapters} == {"0", "1"}
    assert {name.split(".")[0] for name in reached - adapters} == {"prompt_encoder", "mask_decoder"}


def test_targets_and_blocks_that_are_not_there_are_named() -> None:
    """Thirds of TinyViT's qkv, block 7 of 2, a part that nothing is called."""
    mobile, vit = build_sam("mobilesam", SamOptions(64)), build_sam("sam-vit-b", SamOptions(64, 1))
    with pytest.raises(RunError, match="packs its own per head"):
        add_lora(mobile, LoraOptions(targets=("q", "v")))
    with pytest.raises(RunError, match="lora_blocks: the encoder has no block 7"):
        add_lora(vit, LoraOptions(targets=("q",), blocks=(0, 7)))
    with pytest.raises(RunError, match="lora_decoder_targets: no layer is called qkv"):
        add_lora(vit, LoraOptions(targets=("q",), decoder_targets=("qkv",)))
    with pytest.raises(RunError, match="begins with mask_decodr"):
        fresh = build_sam("sam-vit-b", SamOptions(64, 1, 2))
        choose_trainable(fresh, load_recipe("nuinsseg-sam-vit-b", ["lora_blocks=[]", 'train_beside=["mask_decodr"]']))
