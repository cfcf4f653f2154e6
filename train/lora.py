"""LoRA on TinyViT: peft's adapters, saved alone with the hash of their base, merged as a function of dictionaries."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge.errors import ModelError, RunError
from train.checkpoint import read_checkpoint
from train.network import LiteMedSAM

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # peft's names
TARGETS = ("qkv", "proj", "fc1", "fc2")  # attention and MLP of every TinyViT block


@dataclass(frozen=True)
class LoraOptions:
    """Which layers are adapted, and how strongly."""

    rank: int = 4
    alpha: int = 4  # the update counts alpha / rank
    dropout: float = 0.0
    targets: tuple[str, ...] = TARGETS


def add_lora(network: LiteMedSAM, options: LoraOptions) -> None:
    """Adapters on the encoder's target layers; everything in the network but them is frozen.

    TinyViT packs `qkv` per head and an adapter on the whole layer does not care: nothing here splits it into thirds.

    Raises:
        RunError: a target that no layer is called, so that nothing would be adapted.
    """
    from peft import LoraConfig, inject_adapter_in_model

    modules = network.image_encoder.named_modules()
    names = {name.rsplit(".", 1)[-1] for name, module in modules if isinstance(module, nn.Linear)}
    if absent := [target for target in options.targets if target not in names]:
        raise RunError(f"lora_targets: no layer is called {', '.join(absent)}; there are {', '.join(sorted(names))}")
    network.requires_grad_(False)
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets),
        bias="none",
    )
    inject_adapter_in_model(config, network.image_encoder)


def adapter_state(network: nn.Module) -> dict[str, Tensor]:
    """The adapters' tensors alone, named by the layer: `image_encoder.layers.1.blocks.0.attn.qkv.lora_A`."""
    return {
        key.replace(".default.weight", ""): value.detach().contiguous()
        for key, value in network.state_dict().items()
        if ".lora_" in key
    }


def base_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with adapters in it, without them and in the public layout again."""
    return {key.replace(".base_layer", ""): value for key, value in state.items() if ".lora_" not in key}


def state_hash(state: dict[str, Tensor]) -> str:
    """SHA-256 of a state dict's names and numbers; the file that holds it may be wrapped or bare."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_adapter(
    folder: Path, network: nn.Module, options: LoraOptions, base_hash: str, extra: dict[str, Tensor]
) -> None:
    """Write the adapter: peft's two files, with the base's hash.

    Args:
        base_hash: `state_hash` of the base it was trained on.
        extra: tensors trained in full beside it, such as the mask decoder's; empty: none.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "r": options.rank,
        "lora_alpha": options.alpha,
        "lora_dropout": options.dropout,
        "target_modules": list(options.targets),
        "base_sha256": base_hash,
    }
    partial = folder / f".{WEIGHTS}.partial"
    save_file({**adapter_state(network), **{key: value.contiguous() for key, value in extra.items()}}, partial)
    partial.replace(folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a saved adapter.

    Raises:
        ModelError: not an adapter folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder}: not an adapter folder with {CONFIG} and {WEIGHTS} ({error})") from None
    if not {"r", "lora_alpha", "base_sha256"} <= set(config):
        raise ModelError(f"{folder / CONFIG}: needs r, lora_alpha and base_sha256, has {', '.join(sorted(config))}")
    return config, tensors


def merge_adapter(base: dict[str, Tensor], adapter: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The base with `scale * B A` added to every adapted weight, and tensors trained in full put in their place.

    Raises:
        ModelError: an adapter that names a layer the base does not have, adapts nothing, or gives no finite numbers.
    """
    merged = dict(base)
    layers = {key.rsplit(".", 1)[0] for key in adapter if ".lora_" in key}
    unknown = [f"{layer}.weight" for layer in layers if f"{layer}.weight" not in base]
    unknown += [key for key in adapter if ".lora_" not in key and key not in base]
    if unknown or not layers:
        raise ModelError(f"the adapter does not fit its base: {', '.join(sorted(unknown)) or 'it adapts no layer'}")
    for layer in layers:
        update = scale * (adapter[f"{layer}.lora_B"].float() @ adapter[f"{layer}.lora_A"].float())
        merged[f"{layer}.weight"] = base[f"{layer}.weight"] + update
    merged |= {key: value for key, value in adapter.items() if ".lora_" not in key}
    if bad := [key for key, value in merged.items() if not torch.isfinite(value).all()]:
        raise ModelError(f"the merge gives numbers that are not finite in {', '.join(sorted(bad)[:3])}")
    return merged


def load_merged(base: Path, adapter: Path) -> dict[str, Tensor]:
    """The public-layout state dict of a base checkpoint with an adapter folder merged into it.

    Raises:
        ModelError: either cannot be read, or the adapter was trained on another base.
    """
    config, tensors = read_adapter(adapter)
    state = read_checkpoint(base)
    if (found := state_hash(state)) != config["base_sha256"]:
        raise ModelError(
            f"{adapter}: was trained on the base with hash {config['base_sha256'][:12]}, "
            f"{base} has {found[:12]}; give the base it was trained on"
        )
    return merge_adapter(state, tensors, config["lora_alpha"] / config["r"])
