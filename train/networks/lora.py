"""LoRA: peft's adapters where they are exact, own ones on parts of a fused `qkv`; merged as dictionaries."""

import math
import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge.errors import ModelError, RunError
from train.networks.tiny_vit import TinyViT
from train.sam_systems.network import SEMANTIC_HEAD

TARGETS = ("qkv", "proj", "fc1", "fc2")  # attention and MLP of every TinyViT block
FUSED_PARTS = ("q", "k", "v")  # as targets: thirds of a ViT's fused `qkv`


@dataclass(frozen=True)
class LoraOptions:
    """Which layers are adapted, and how strongly."""

    rank: int = 4
    alpha: int = 4  # the update counts alpha / rank
    dropout: float = 0.0
    targets: tuple[str, ...] = TARGETS  # of the image encoder: names of its linear layers, or FUSED_PARTS
    blocks: tuple[int, ...] = ()  # of the image encoder; empty: all
    decoder_targets: tuple[str, ...] = ()  # of the mask decoder's attentions: q_proj, k_proj, v_proj, out_proj


class FusedLora(nn.Module):
    """A fused `qkv` with adapters on some of its thirds; the others, and the base's numbers, stay as they are."""

    def __init__(self, base_layer: nn.Linear, options: LoraOptions, parts: tuple[str, ...]) -> None:
        super().__init__()
        self.base_layer = base_layer
        self._parts, self._scale = parts, options.alpha / options.rank
        for part in parts:
            self.add_module(part, _LowRank(base_layer.in_features, base_layer.out_features // 3, options))

    def forward(self, x: Tensor) -> Tensor:
        fused = self.base_layer(x)
        nothing = fused.new_zeros(()).expand(*fused.shape[:-1], fused.shape[-1] // 3)
        updates = [self.get_submodule(part)(x) if part in self._parts else nothing for part in FUSED_PARTS]
        return fused + self._scale * torch.cat(updates, dim=-1)


class _LowRank(nn.Module):
    """B A x; B starts at zero, A as peft starts it."""

    def __init__(self, inputs: int, outputs: int, options: LoraOptions) -> None:
        super().__init__()
        self.dropout = nn.Dropout(options.dropout)
        self.lora_A = nn.Linear(inputs, options.rank, bias=False)
        self.lora_B = nn.Linear(options.rank, outputs, bias=False)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.lora_B(self.lora_A(self.dropout(x)))


def add_lora(network: Any, options: LoraOptions) -> None:
    """Adapters on the target layers of `network.image_encoder` and its decoder; everything but them is frozen.

    TinyViT packs `qkv` per head and an adapter on the whole layer does not care: nothing here splits it into thirds.

    Raises:
        RunError: a target that no layer is called, a block that is not there, thirds of a `qkv` that has none.
    """
    network.requires_grad_(False)
    parts = tuple(target for target in options.targets if target in FUSED_PARTS)
    if parts:
        _add_to_fused(network.image_encoder, options, parts)
    whole = tuple(target for target in options.targets if target not in FUSED_PARTS)
    if whole:
        names = _layers_called(network.image_encoder, whole, "lora_targets")
        _add_peft(network.image_encoder, options, _in_blocks(names, options.blocks))
    if options.decoder_targets:
        names = _layers_called(network.mask_decoder, options.decoder_targets, "lora_decoder_targets")
        _add_peft(network.mask_decoder, options, names)


def _add_to_fused(encoder: nn.Module, options: LoraOptions, parts: tuple[str, ...]) -> None:
    if isinstance(encoder, TinyViT):
        raise RunError(f"lora_targets: {', '.join(parts)} are thirds of a ViT's qkv; TinyViT packs its own per head")
    for name in _in_blocks(_layers_called(encoder, ("qkv",), "lora_targets"), options.blocks):
        fused = FusedLora(encoder.get_submodule(name), options, parts)  # type: ignore[arg-type]
        encoder.set_submodule(name, fused)


def _layers_called(module: nn.Module, targets: tuple[str, ...], key: str) -> list[str]:
    """Names of the linear layers whose last word is one of the targets."""
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    words = {name.rsplit(".", 1)[-1] for name in linear}
    if absent := [target for target in targets if target not in words]:
        raise RunError(f"{key}: no layer is called {', '.join(absent)}; there are {', '.join(sorted(words))}")
    return [name for name in linear if name.rsplit(".", 1)[-1] in targets]


def _in_blocks(names: list[str], blocks: tuple[int, ...]) -> list[str]:
    if not blocks:
        return names
    block_of = {name: int(found.group(1)) for name in names if (found := re.match(r"blocks\.(\d+)\.", name))}
    if absent := sorted(set(blocks) - set(block_of.values())):
        raise RunError(f"lora_blocks: the encoder has no block {', '.join(map(str, absent))}")
    return [name for name in names if block_of.get(name) in blocks]


def _add_peft(module: nn.Module, options: LoraOptions, names: list[str]) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=names,
        bias="none",
    )
    inject_adapter_in_model(config, module)


def adapter_state(network: nn.Module) -> dict[str, Tensor]:
    """The adapters' tensors alone, named by the layer: `image_encoder.layers.1.blocks.0.attn.qkv.lora_A`.

    Of a third of a fused layer: `image_encoder.blocks.0.attn.qkv.v.lora_A`.
    """
    return {
        saved_name(key): value.detach().contiguous() for key, value in network.state_dict().items() if ".lora_" in key
    }


def saved_name(name: str) -> str:
    """What a parameter is called in an adapter's file."""
    if ".lora_" in name:
        return name.replace(".default", "").removesuffix(".weight")
    return name.replace(".base_layer", "")


def merge_adapter(base: dict[str, Tensor], adapter: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The base with tensors trained in full put in their place, and `scale * B A` added to every adapted weight.

    Raises:
        ModelError: an adapter that names a layer the base does not have, adapts nothing, or gives no finite numbers.
    """
    merged = {**base, **{key: value for key, value in adapter.items() if ".lora_" not in key}}
    layers = {key.rsplit(".", 1)[0] for key in adapter if ".lora_" in key}
    weights = {layer: weight for layer in layers if (weight := _adapted_weight(layer, base)) is not None}
    unknown = [f"{layer}.weight" for layer in layers - set(weights)]
    unknown += [key for key in adapter if ".lora_" not in key and key not in base and not key.startswith(SEMANTIC_HEAD)]
    if unknown or not layers:
        raise ModelError(f"the adapter does not fit its base: {', '.join(sorted(unknown)) or 'it adapts no layer'}")
    for layer, (key, rows) in weights.items():
        updated = merged[key].clone()
        up, down = (adapter[f"{layer}.lora_{factor}"].to(updated.dtype) for factor in "BA")
        updated[rows] += scale * (up @ down)
        merged[key] = updated
    if bad := [key for key, value in merged.items() if not torch.isfinite(value).all()]:
        raise ModelError(f"the merge gives numbers that are not finite in {', '.join(sorted(bad)[:3])}")
    return merged


def _adapted_weight(layer: str, base: dict[str, Tensor]) -> tuple[str, slice] | None:
    """The weight that an adapter changes and which rows of it; None: the base has no such layer."""
    if f"{layer}.weight" in base:
        return f"{layer}.weight", slice(None)
    stem, _, part = layer.rpartition(".")
    if part not in FUSED_PARTS or f"{stem}.weight" not in base:
        return None
    third = len(base[f"{stem}.weight"]) // 3
    first = FUSED_PARTS.index(part) * third
    return f"{stem}.weight", slice(first, first + third)


def scale_adapter(base: dict[str, Tensor], adapter: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The adapter whose merge lies on the way from the base, scale 0, to where the training led, scale 1.

    Its update counts `scale` times, and what was trained in full lies between base and tuned (WiSE-FT, Wortsman et al.,
    CVPR 2022).

    Raises:
        ModelError: at another scale than 1 a tensor that the base does not have, or has in another shape.
    """
    if scale == 1:
        return adapter
    beside = {key: value for key, value in adapter.items() if ".lora_" not in key}
    if strange := [key for key, value in beside.items() if key not in base or base[key].shape != value.shape]:
        raise ModelError(f"only scale 1 is possible: the base has nothing to start from for {', '.join(strange[:3])}")
    scaled = {key: value * scale for key, value in adapter.items() if key.endswith(".lora_B")}
    between = {key: torch.lerp(base[key].to(value.dtype), value, scale) for key, value in beside.items()}
    return {**adapter, **scaled, **between}
