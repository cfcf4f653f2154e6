"""`samedge export --adapter`: the merge is exact, or nothing is written."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from edge.data.files import file_hash
from edge.errors import ModelError, RunError
from export.checks.parity import Parity
from export.cli import app
from export.model_files import merge, model
from export.model_files.merge import merged_network
from export.model_files.model import export_model
from export.model_files.options import ExportOptions
from tests.rounding import relative_difference
from train.networks.adapter import CONFIG, WEIGHTS, average_adapters, load_merged, save_adapter, state_hash
from train.networks.checkpoint import save_atomically
from train.networks.litemedsam import LiteMedSAM
from train.networks.lora import LoraOptions, add_lora, scale_adapter

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


def test_adapters_of_the_decoder_are_merged_and_checked(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `lora_decoder_targets` trains them; a decoder that is merged wrongly is seen."""
    network = LiteMedSAM()
    state = torch.load(pair[0], weights_only=True)
    network.load_state_dict(state)
    options = LoraOptions(rank=2, alpha=2, targets=("qkv",), decoder_targets=("q_proj", "v_proj"))
    add_lora(network, options)
    for name, parameter in network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save_adapter(tmp_path / "adapter", network, options, state_hash(state), {})
    layer = "mask_decoder.transformer.layers.0.self_attn.q_proj"
    tensors = load_file(tmp_path / "adapter" / WEIGHTS)
    expected = state[f"{layer}.weight"] + tensors[f"{layer}.lora_B"] @ tensors[f"{layer}.lora_A"]
    merged = merged_network(pair[0], tmp_path / "adapter").state_dict()
    assert relative_difference(merged[f"{layer}.weight"], expected) < 1e-6

    def wrong(*arguments: Any) -> dict[str, torch.Tensor]:
        return {**load_merged(*arguments), f"{layer}.weight": state[f"{layer}.weight"]}

    monkeypatch.setattr(merge, "load_merged", wrong)
    with pytest.raises(ModelError, match="the merged decoder differs"):
        merged_network(pair[0], tmp_path / "adapter")


def test_a_scale_lies_between_base_and_tuned(pair: tuple[Path, Path]) -> None:
    """0 is the base and answers as it, 1 what is merged without a scale, 0.5 the middle of each weight."""
    before, tuned = torch.load(pair[0], weights_only=True), load_merged(*pair)
    whole = load_merged(*pair, 1.0)
    none, half = (merged_network(*pair, scale) for scale in (0.0, 0.5))
    assert all(torch.equal(none.state_dict()[key], value) for key, value in before.items())
    assert all(torch.equal(whole[key], value) for key, value in tuned.items())
    changed = {key for key, value in before.items() if not torch.equal(value, tuned[key])}
    assert {"mask_decoder.mask_tokens.weight", PATCHES} < changed
    assert sum(key.endswith("attn.qkv.weight") for key in changed) == 10  # blocks with attention: 2, 6 and 2
    for key, found in half.state_dict().items():
        if key in changed:
            assert relative_difference(found, (before[key] + tuned[key]) / 2) < 1e-6, key  # 8 roundings
        else:
            assert torch.equal(found, before[key]), key

    base = LiteMedSAM()
    base.load_state_dict(before)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, same, other = (network.eval().image_encoder(image) for network in (base, none, half))
    assert torch.equal(expected, same) and not torch.allclose(expected, other, atol=1e-3)


def test_the_command_merges_at_the_scale_and_tells_it(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command line to the merge, and to what model.json says it was made from; 1 if not given."""
    merged_at: list[float] = []
    told: list[dict[str, Any]] = []

    def merged(_base: Path, _adapter: Path, scale: float) -> None:
        merged_at.append(scale)

    def fill(
        _folder: Path, _network: None, checkpoint: Path, options: ExportOptions, _progress: object
    ) -> list[Parity]:
        told.append(model._made_from(checkpoint, options))
        return []

    monkeypatch.setattr(model, "merged_network", merged)
    monkeypatch.setattr(model, "_fill", fill)
    base, adapter = pair
    for given in ([], ["--adapter-scale", "0.25"]):
        run = CliRunner().invoke(app, [str(base), str(tmp_path / "out"), "--adapter", str(adapter), "-q", *given])
        assert run.exit_code == 0, run.output
    facts = {"adapter": "adapter", "adapter_sha256": file_hash(adapter / WEIGHTS)}
    assert merged_at == [1, 0.25]
    assert all(made.items() >= {**facts, "adapter_scale": at}.items() for at, made in zip(merged_at, told, strict=True))


def test_a_scale_is_refused_where_there_is_nothing_to_start_from(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """No adapter, or one that trained a tensor of another shape than the base's."""
    base, adapter = pair
    with pytest.raises(RunError, match="--adapter-scale needs --adapter"):
        export_model(base, tmp_path / "model", ExportOptions(adapter_scale=0.5))
    tensors = load_file(adapter / WEIGHTS)
    tensors["mask_decoder.mask_tokens.weight"] = torch.ones(5, 256)
    with pytest.raises(ModelError, match="the base has nothing to start from for mask_decoder"):
        scale_adapter(torch.load(base, weights_only=True), tensors, 0.5)


def test_a_second_merge_and_another_base_are_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """The adapter knows the hash of what it was trained on; the merged network is another base."""
    base, adapter = pair
    save_atomically(merged_network(base, adapter).state_dict(), tmp_path / "merged.pth")
    with pytest.raises(ModelError, match="was trained on the base with hash"):
        merged_network(tmp_path / "merged.pth", adapter)


def test_a_merge_that_answers_otherwise_is_refused(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As a merge with a wrong scale would."""
    load = merge.load_merged

    def wrong(base: Path, adapter: Path, scale: float) -> dict[str, torch.Tensor]:
        state = load(base, adapter, scale)
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


def test_a_rank_that_is_not_the_tensors_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    """It would merge at another strength."""
    base, adapter = pair
    changed = shutil.copytree(adapter, tmp_path / "adapter")
    config = json.loads((changed / CONFIG).read_text())
    (changed / CONFIG).write_text(json.dumps({**config, "r": 1}))
    with pytest.raises(ModelError, match=r"adapter_config.json says rank 1, .* has \[2\]"):
        load_merged(base, changed)


def test_the_mean_of_two_adapters_is_theirs_number_by_number(tmp_path: Path) -> None:
    """Zeros and the adapter: half of it. One of another base is refused."""
    network = LiteMedSAM()
    base = state_hash(network.state_dict())
    add_lora(network, LoraOptions(rank=2, alpha=2))
    save_adapter(tmp_path / "one", network, LoraOptions(rank=2, alpha=2), base, {})
    save_adapter(tmp_path / "other", network, LoraOptions(rank=2, alpha=2), "0" * 64, {})
    one = load_file(tmp_path / "one" / WEIGHTS)
    (tmp_path / "zeros").mkdir()
    save_file({key: torch.zeros_like(value) for key, value in one.items()}, tmp_path / "zeros" / WEIGHTS)
    (tmp_path / "zeros" / CONFIG).write_text((tmp_path / "one" / CONFIG).read_text())
    average_adapters(tmp_path / "one", tmp_path / "zeros", tmp_path / "mean")
    mean = load_file(tmp_path / "mean" / WEIGHTS)
    assert mean.keys() == one.keys() and all(torch.equal(mean[key], (one[key] / 2).half()) for key in one)
    with pytest.raises(ModelError, match="is not of the base and shape"):
        average_adapters(tmp_path / "one", tmp_path / "other", tmp_path / "mean")
