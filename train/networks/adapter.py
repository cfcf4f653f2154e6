"""An adapter's folder: its numbers alone, with the hash of the base they belong to, in peft's two files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edge.data.files import make_folder, read_json, write_whole
from edge.errors import ModelError
from train.networks.checkpoint import read_checkpoint
from train.networks.lora import LoraOptions, adapter_state, merge_adapter, saved_name, scale_adapter
from train.sam_systems.network import fit_mask_tokens

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # peft's names


def save_adapter(
    folder: Path,
    network: nn.Module,
    options: LoraOptions,
    base_hash: str,
    extra: dict[str, Tensor],
    made_for: Mapping[str, Any] | None = None,
) -> None:
    """Write the adapter: peft's two files, with the base's hash.

    Args:
        base_hash: `state_hash` of the base it was trained on.
        extra: tensors trained in full beside it, such as the mask decoder's; empty: none.
        made_for: what else is needed to put the network together and feed it; None: LiteMedSAM.
    """
    from safetensors.torch import save

    make_folder(folder)
    config = {
        "peft_type": "LORA",
        "r": options.rank,
        "lora_alpha": options.alpha,
        "lora_dropout": options.dropout,
        "target_modules": list(options.targets),
        "blocks": list(options.blocks),
        "decoder_targets": list(options.decoder_targets),
        "base_sha256": base_hash,
        "made_for": dict(made_for or {"network": "litemedsam"}),
    }
    tensors = {**adapter_state(network), **{key: value.contiguous() for key, value in extra.items()}}
    write_whole(folder / WEIGHTS, save(tensors))
    write_whole(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def halve_adapter(folder: Path, out: Path) -> None:
    """Write an adapter with float16 numbers, half the size: how it is kept in a repository.

    Raises:
        ModelError: see `read_adapter`.
    """
    from safetensors.torch import save

    config, tensors = read_adapter(folder)
    make_folder(out)
    write_whole(out / WEIGHTS, save({key: value.half() for key, value in tensors.items()}))
    write_whole(out / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def average_adapters(first: Path, second: Path, out: Path) -> None:
    """Write the mean of two adapters, number by number, in float16: of one run, earlier and later (model soups, 2022).

    Raises:
        ModelError: see `read_adapter`; or they are not of one base and shape.
    """
    from safetensors.torch import save

    (config, one), (other_config, other) = read_adapter(first), read_adapter(second)
    if config != other_config or {k: v.shape for k, v in one.items()} != {k: v.shape for k, v in other.items()}:
        raise ModelError(f"{second}: is not of the base and shape of {first}")
    make_folder(out)
    write_whole(out / WEIGHTS, save({key: ((value + other[key]) / 2).half() for key, value in one.items()}))
    write_whole(out / CONFIG, (json.dumps(config, indent=2) + "\n").encode())


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors, in float32, of a saved adapter.

    Raises:
        ModelError: not an adapter folder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = read_json(folder / CONFIG)
        tensors = {key: value.float() for key, value in load_file(folder / WEIGHTS).items()}
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"{folder}: not an adapter folder with {CONFIG} and {WEIGHTS} ({error})") from None
    if not {"r", "lora_alpha", "base_sha256"} <= set(config):
        raise ModelError(f"{folder / CONFIG}: needs r, lora_alpha and base_sha256, has {', '.join(sorted(config))}")
    ranks = {len(tensor) for key, tensor in tensors.items() if "lora_A" in key}
    if ranks - {config["r"]}:
        raise ModelError(
            f"{folder}: {CONFIG} says rank {config['r']}, {WEIGHTS} has {sorted(ranks)}; one is of another"
        )
    return config, tensors


def load_adapter(network: nn.Module, folder: Path, options: LoraOptions, base_hash: str) -> str:
    """Fill a network's adapters, and what trains in full beside them, from a folder.

    Args:
        options: of the network's adapters.
        base_hash: `state_hash` of what the network started from.

    Returns:
        The adapter's own `state_hash`.

    Raises:
        ModelError: not an adapter folder, one of another base, or one that does not train what the network trains.
    """
    config, tensors = read_adapter(folder)
    if config["base_sha256"] != base_hash:
        raise ModelError(
            f"{folder}: was trained on the base with hash {config['base_sha256'][:12]}, --base has {base_hash[:12]}"
        )
    if (config["r"], config["lora_alpha"]) != (options.rank, options.alpha):
        raise ModelError(
            f"{folder}: has rank {config['r']} and alpha {config['lora_alpha']}, the recipe {options.rank} and "
            f"{options.alpha}; add lora_rank={config['r']} lora_alpha={config['lora_alpha']}"
        )
    trained = {saved_name(name): name for name, parameter in network.named_parameters() if parameter.requires_grad}
    if differing := sorted(set(trained) ^ set(tensors)):
        side = "the adapter has not" if differing[0] in trained else "the recipe does not train"
        raise ModelError(
            f"{folder}: {len(differing)} tensors differ, such as {differing[0]}, which {side}; give the keys "
            "trainable, train_beside and lora_targets that it was trained with"
        )
    network.load_state_dict({trained[key]: value for key, value in tensors.items()}, strict=False)
    return state_hash(tensors)


def load_merged(base: Path, adapter: Path, scale: float = 1.0) -> dict[str, Tensor]:
    """The public-layout state dict of a base checkpoint with an adapter folder merged into it.

    A SAM network trained with another number of masks than the public one has these tokens, and its semantic head.

    Args: scale: see `train.networks.lora.scale_adapter`.

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
    if (channels := config.get("made_for", {}).get("channels", 1)) > 1:
        state = fit_mask_tokens(state, channels)
    return merge_adapter(state, scale_adapter(state, tensors, scale), config["lora_alpha"] / config["r"])


def state_hash(state: dict[str, Tensor]) -> str:
    """SHA-256 of a state dict's names and numbers; the file that holds it may be wrapped or bare."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
