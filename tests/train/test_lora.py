"""Adapters: the paper's count, gradients everywhere, and a merge that changes nothing."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from edge.errors import ModelError, RunError
from tests.rounding import ROUNDING_F32, ROUNDING_F64, relative_difference
from train.networks.adapter import halve_adapter, load_adapter, load_merged, read_adapter, save_adapter, state_hash
from train.networks.checkpoint import load_weights, save_atomically
from train.networks.litemedsam import PARAMETERS, LiteMedSAM
from train.networks.lora import LoraOptions, adapter_state, add_lora, merge_adapter
from train.networks.parts import (
    choose_trainable,
    count_parameters,
    lora_options,
    set_training_mode,
    trained_beside_adapters,
)
from train.recipe import load_recipe

RANK_4 = ["lora_rank=4", "lora_alpha=4", "trainable=lora", "train_beside=[]"]  # the paper's adapter


@pytest.fixture
def adapted() -> tuple[LiteMedSAM, dict[str, Tensor]]:
    """A network with adapters of random numbers (B starts at zero), and its base."""
    torch.manual_seed(0)
    network = LiteMedSAM().eval()
    base = {key: value.clone() for key, value in network.state_dict().items()}
    add_lora(network, LoraOptions(rank=4, alpha=8))
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return network, base


def test_trainable_parameters_are_16_times_rank_times_width_of_every_block() -> None:
    """qkv r(d + 3d), proj r(d + d), fc1 and fc2 r(d + 4d) each; widths 2 x 128, 6 x 160, 2 x 320: 118,784 by hand."""
    network = LiteMedSAM()
    choose_trainable(network, load_recipe("litemedsam-lora", RANK_4))
    by_hand = 4 * 16 * (2 * 128 + 6 * 160 + 2 * 320)
    assert count_parameters(network) == (PARAMETERS + by_hand, by_hand) == (9_910_084, 118_784)


def test_a_gradient_reaches_every_adapter_and_nothing_else() -> None:
    """After one step of B away from zero, A has gradients too."""
    torch.manual_seed(0)
    network = LiteMedSAM()
    choose_trainable(network, load_recipe("litemedsam-lora", RANK_4))
    set_training_mode(network)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        embeddings = network.image_encoder(torch.rand(1, 3, 56, 56))
        logits = network.decode_views(embeddings, torch.tensor([[5.0, 5, 40, 40]]))
        logits.square().mean().backward()
        optimizer.step()
    reached = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {name for name, _ in network.named_parameters() if ".lora_" in name}


def test_the_decoder_trains_by_option_but_not_what_a_box_never_touches() -> None:
    """Its three multi-mask heads, and the IoU head without a loss, stay frozen."""
    network = LiteMedSAM()
    choose_trainable(network, load_recipe("litemedsam-lora", [*RANK_4, "trainable=lora+decoder"]))
    beside = set(trained_beside_adapters(network))
    assert "mask_decoder.transformer.layers.0.self_attn.q_proj.weight" in beside
    assert all(name.startswith("mask_decoder.") for name in beside)
    assert not any("hypernetworks_mlps.1" in name or "iou_prediction_head" in name for name in beside)


def test_merged_equals_unmerged_in_float64(adapted: tuple[LiteMedSAM, dict[str, Tensor]]) -> None:
    """One function in two orders of operations, and another than the base's; 32 px pad the windows as a frame does."""
    network, base = adapted
    image = torch.rand(1, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    network.double()
    exact = {key: value.double() if value.is_floating_point() else value for key, value in base.items()}
    merged, plain = LiteMedSAM().double().eval(), LiteMedSAM().double().eval()
    load_weights(merged, merge_adapter(exact, adapter_state(network), 8 / 4), "merged")
    load_weights(plain, exact, "base")
    with torch.no_grad():
        expected = network.image_encoder(image)
        assert relative_difference(merged.image_encoder(image), expected) < ROUNDING_F64
        assert relative_difference(plain.image_encoder(image), expected) > 1e-3


def test_merged_equals_unmerged_after_a_save_and_a_load(
    tmp_path: Path, adapted: tuple[LiteMedSAM, dict[str, Tensor]]
) -> None:
    """Embeddings of 64 px, whose windows are padded as a frame's, but for rounding; the adapter's files below 1 MB."""
    network, base = adapted
    save_atomically({"model": base}, tmp_path / "base.pth")
    save_adapter(tmp_path / "adapter", network, LoraOptions(rank=4, alpha=8), state_hash(base), {})
    merged = LiteMedSAM().eval()
    load_weights(merged, load_merged(tmp_path / "base.pth", tmp_path / "adapter"), "merged")
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, plain = network.image_encoder(image), LiteMedSAM().eval()
        assert relative_difference(merged.image_encoder(image), expected) < ROUNDING_F32
        load_weights(plain, base, "base")
        assert relative_difference(plain.image_encoder(image), expected) > 1e-3  # or the test could not fail
    assert sum(path.stat().st_size for path in (tmp_path / "adapter").iterdir()) < 1e6


def test_an_adapter_refuses_another_base(tmp_path: Path, adapted: tuple[LiteMedSAM, dict[str, Tensor]]) -> None:
    """One number changed is another base."""
    network, base = adapted
    save_adapter(tmp_path / "adapter", network, LoraOptions(rank=4, alpha=8), state_hash(base), {})
    base["mask_decoder.iou_token.weight"][0, 0] += 1
    save_atomically(base, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="give the base it was trained on"):
        load_merged(tmp_path / "other.pth", tmp_path / "adapter")


def test_adapters_come_out_alone(adapted: tuple[LiteMedSAM, dict[str, Tensor]]) -> None:
    """Two matrices on each of four layers of ten blocks, named by their layers."""
    state = adapter_state(adapted[0])
    assert len(state) == 2 * 4 * 10 and "image_encoder.layers.1.blocks.0.attn.qkv.lora_A" in state


def test_a_target_that_matches_nothing_is_an_error() -> None:
    """And names what there is."""
    with pytest.raises(RunError, match=r"no layer is called q_proj.*fc1, fc2, proj, qkv"):
        add_lora(LiteMedSAM(), LoraOptions(targets=("qkv", "q_proj")))


def test_an_adapter_of_another_network_or_of_nothing_does_not_merge() -> None:
    """Unknown layer; no layer; a number that is not finite."""
    base = {"layer.weight": torch.zeros(3, 2)}
    fitting = {"layer.lora_A": torch.ones(1, 2), "layer.lora_B": torch.ones(3, 1)}
    assert torch.equal(merge_adapter(base, fitting, 0.5)["layer.weight"], torch.full((3, 2), 0.5))
    with pytest.raises(ModelError, match=r"other\.weight"):
        merge_adapter(base, {"other.lora_A": torch.ones(1, 2), "other.lora_B": torch.ones(3, 1)}, 1)
    with pytest.raises(ModelError, match="adapts no layer"):
        merge_adapter(base, {}, 1)
    with pytest.raises(ModelError, match="not finite"):
        merge_adapter(base, {**fitting, "layer.lora_A": torch.full((1, 2), torch.inf)}, 1)


def test_a_folder_that_is_no_adapter_is_one_line(tmp_path: Path) -> None:
    """Empty, or with a damaged file."""
    with pytest.raises(ModelError, match="not an adapter folder"):
        read_adapter(tmp_path)


def test_convolutions_train_in_full_beside_the_adapters_but_not_their_batch_normalisation() -> None:
    """Those that the recipe names; statistics, scales and shifts stay the base's, and no step changes them."""
    network = LiteMedSAM()
    choose_trainable(network, load_recipe("litemedsam-lora"))
    beside = set(trained_beside_adapters(network))
    assert {"image_encoder.patch_embed.seq.0.c.weight", "image_encoder.neck.0.weight"} <= beside
    assert not any(".bn." in name for name in beside)
    statistics = {name: value.clone() for name, value in network.state_dict().items() if ".bn." in name}
    set_training_mode(network)
    network.image_encoder(torch.rand(2, 3, 56, 56))
    assert all(torch.equal(network.state_dict()[name], value) for name, value in statistics.items())


def test_training_goes_on_from_an_adapter(tmp_path: Path) -> None:
    """All of its tensors come back, also those that trained in full; another rank, part or base is refused."""
    torch.manual_seed(0)
    recipe = load_recipe("litemedsam-lora", ["lora_rank=4", "lora_alpha=4"])
    first, second = LiteMedSAM(), LiteMedSAM()
    base = state_hash(second.state_dict())
    for network in (first, second):
        choose_trainable(network, recipe)
    for parameter in first.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    save_adapter(tmp_path / "a", first, lora_options(recipe), base, trained_beside_adapters(first))
    found = load_adapter(second, tmp_path / "a", lora_options(recipe), base)
    trained = [name for name, parameter in first.named_parameters() if parameter.requires_grad]
    states = first.state_dict(), second.state_dict()
    assert len(trained) > 100 and all(torch.equal(states[0][name], states[1][name]) for name in trained)
    assert found == state_hash(read_adapter(tmp_path / "a")[1])
    with pytest.raises(ModelError, match=r"trained on the base with hash"):
        load_adapter(second, tmp_path / "a", lora_options(recipe), "0" * 64)
    with pytest.raises(ModelError, match=r"has rank 4 and alpha 4, the recipe 4 and 8; add lora_rank=4 lora_alpha=4"):
        load_adapter(second, tmp_path / "a", LoraOptions(4, 8), base)
    other = LiteMedSAM()
    choose_trainable(other, load_recipe("litemedsam-lora", RANK_4))
    with pytest.raises(ModelError, match="which the recipe does not train; give the keys trainable, train_beside"):
        load_adapter(other, tmp_path / "a", lora_options(recipe), base)


def test_an_adapter_is_halved_for_the_repository(tmp_path: Path, adapted: tuple[LiteMedSAM, dict[str, Tensor]]) -> None:
    """Half the bytes, the same config, and numbers that are the float16 nearest to what they were."""
    network, base = adapted
    save_adapter(tmp_path / "whole", network, LoraOptions(), state_hash(base), {})
    halve_adapter(tmp_path / "whole", tmp_path / "half")
    (config, tensors), (halved_config, halved) = (read_adapter(tmp_path / name) for name in ("whole", "half"))
    assert halved_config == config
    assert all(torch.equal(halved[key], value.half().float()) for key, value in tensors.items())
    sizes = [(tmp_path / name / "adapter_model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
