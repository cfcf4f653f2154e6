"""`samedge export --adapter`: the merge is exact, or nothing is written."""

from pathlib import Path

import pytest
import torch
from rounding import relative_difference
from safetensors.torch import load_file, save_file

from edge.errors import ModelError
from export import merge
from export.merge import merged_network
from train.networks.checkpoint import save_atomically
from train.networks.litemedsam import LiteMedSAM
from train.networks.lora import WEIGHTS, LoraOptions, add_lora, save_adapter, state_hash

PATCHES = "image_encoder.patch_embed.seq.0.c.weight"  # a convolution of the encoder that trains in full


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base checkpoint, and an adapter on it of numbers that matter (peft starts B at zero)."""
    folder = tmp_path_factory.mktemp("merge")
    torch.manual_seed(0)
    network = LiteMedSAM()
    state = {key: value.clone() for key, value in network.state_dict().items()}
    save_atomically(state, folder / "base.pth")
    options = LoraOptions(rank=2, alpha=6)
    add_lora(network, options)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    beside = {"mask_decoder.mask_tokens.weight": torch.ones(4, 256), PATCHES: torch.ones(32, 3, 1, 1)}
    save_adapter(folder / "adapter", network, options, state_hash(state), beside)
    return folder / "base.pth", folder / "adapter"


def test_the_merged_network_holds_the_update_and_what_was_trained_beside_it(pair: tuple[Path, Path]) -> None:
    """W + alpha / rank x B A, by hand for one layer; other layers as the base's."""
    base, adapter = pair
    merged = merged_network(base, adapter).state_dict()
    before = torch.load(base, weights_only=True)
    layer = "image_encoder.layers.2.blocks.1.attn.qkv"
    tensors = load_file(adapter / WEIGHTS)
    update = 3.0 * tensors[f"{layer}.lora_B"] @ tensors[f"{layer}.lora_A"]
    assert update.abs().max() > 0.01
    assert relative_difference(merged[f"{layer}.weight"], before[f"{layer}.weight"] + update) < 1e-6  # 8 roundings
    assert torch.equal(merged[f"{layer}.bias"], before[f"{layer}.bias"])
    assert (merged["mask_decoder.mask_tokens.weight"] == 1).all()
    assert (merged[PATCHES] == 1).all()


def test_a_second_merge_and_another_base_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The adapter knows the hash of what it was trained on; the merged network is another base."""
    base, adapter = pair
    save_atomically(merged_network(base, adapter).state_dict(), tmp_path / "merged.pth")
    with pytest.raises(ModelError, match="was trained on the base with hash"):
        merged_network(tmp_path / "merged.pth", adapter)


def test_a_merge_that_answers_otherwise_is_refused(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a merge with a wrong scale would."""
    load = merge.load_merged

    def wrong(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
        state = load(base, adapter)
        state["image_encoder.layers.1.blocks.0.mlp.fc1.weight"] *= 1.01
        return state

    monkeypatch.setattr(merge, "load_merged", wrong)
    with pytest.raises(ModelError, match=r"differs from base and adapter side by side by \d"):
        merged_network(*pair)


@pytest.mark.parametrize("kind", ["nothing", "infinite"])
def test_an_adapter_of_no_layer_or_of_no_numbers_is_refused(pair: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    """Nothing to merge; or infinities that would end in the graph."""
    base, adapter = pair
    tensors = load_file(adapter / WEIGHTS)
    if kind == "nothing":
        tensors = {key: value for key, value in tensors.items() if ".lora_" not in key}
    else:
        key = next(key for key in tensors if ".lora_A" in key)
        tensors[key][0, 0] = float("inf")
    (tmp_path / "adapter").mkdir()
    save_file(tensors, tmp_path / "adapter" / WEIGHTS)
    (tmp_path / "adapter" / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    with pytest.raises(ModelError, match=r"adapts no layer|not finite"):
        merged_network(base, tmp_path / "adapter")
