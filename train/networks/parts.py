"""What of the network trains, and how it starts."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edge.errors import RunError
from train.networks.build import LITEMEDSAM, Network
from train.networks.lora import LoraOptions, add_lora
from train.networks.tiny_vit import Block, MBConv, PatchMerging, TinyViT
from train.recipe import Recipe

# A single box prompt never touches these; training them would only keep processes waiting for their gradients.
UNUSED = (
    "prompt_encoder.point_embeddings.0", "prompt_encoder.point_embeddings.1", "prompt_encoder.not_a_point_embed",
    "prompt_encoder.mask_downscaling", "mask_decoder.output_hypernetworks_mlps.1",
    "mask_decoder.output_hypernetworks_mlps.2", "mask_decoder.output_hypernetworks_mlps.3",
)  # fmt: skip
COMPILED_SHAPES = 64  # widths, sizes of views, with and without a gradient
IOU_HEAD = "mask_decoder.iou_prediction_head"


def lora_options(recipe: Recipe) -> LoraOptions:
    """The adapter a recipe describes."""
    return LoraOptions(
        recipe.lora_rank,
        recipe.lora_alpha,
        recipe.lora_dropout,
        recipe.lora_targets,
        recipe.lora_blocks,
        recipe.lora_decoder_targets,
    )


def choose_trainable(network: Network, recipe: Recipe) -> None:
    """Adapters where the recipe wants them; gradients for what trains, and for nothing else.

    Raises:
        RunError: a layer, block or part that the network does not have.
    """
    network.requires_grad_(recipe.trainable == "all")
    if recipe.trainable.startswith("lora"):
        add_lora(network, lora_options(recipe))
    if recipe.trainable in ("lora+decoder", "decoder"):
        network.mask_decoder.requires_grad_(True)
    _train_beside(network, recipe.train_beside)
    if recipe.trainable != "all":
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)  # its statistics are the base's
    if recipe.network != LITEMEDSAM:
        return
    for name, parameter in network.named_parameters():
        if name.startswith(UNUSED) or (name.startswith(IOU_HEAD) and not recipe.iou_weight):
            parameter.requires_grad_(False)


def _train_beside(network: nn.Module, parts: tuple[str, ...]) -> None:
    names = [name for name, _ in network.named_parameters()]
    if absent := [part for part in parts if not any(name.startswith(part) for name in names)]:
        raise RunError(f"train_beside: nothing in the network begins with {', '.join(absent)}")
    for name, parameter in network.named_parameters():
        if parts and name.startswith(parts):
            parameter.requires_grad_(True)


def set_training_mode(network: nn.Module) -> None:
    """Training mode, except for batch normalisation that does not train: its statistics belong to the base."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and not module.weight.requires_grad:
            module.eval()


def trained_beside_adapters(network: nn.Module) -> dict[str, Tensor]:
    """Tensors that train in full although adapters train too, by their public names."""
    return {
        name.replace(".base_layer", ""): parameter.detach()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and ".lora_" not in name
    }


def start_evenly(network: Network) -> None:
    """TinyViT from nothing: weights under which the image passes every block nearly unchanged at first."""
    if not isinstance(network.image_encoder, TinyViT):
        return
    for name, module in network.image_encoder.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif name.endswith("local_conv"):
            nn.init.dirac_(module.c.weight, groups=module.c.groups)
        elif name.endswith("conv3") and ".blocks." in name:
            nn.init.zeros_(module.bn.weight)


def compile_blocks(encoder: nn.Module) -> None:
    """`torch.compile` each block by itself: blocks of one width share a graph for each size of view."""
    torch._dynamo.config.recompile_limit = COMPILED_SHAPES
    torch._dynamo.config.accumulated_recompile_limit = 4 * COMPILED_SHAPES
    for module in encoder.modules():
        if isinstance(module, (Block, MBConv, PatchMerging)):
            module.compile(dynamic=False)


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters that train, for an optimiser: matrices decay, biases, scales and learned tokens do not.

    `lr_share` of a group is its part of the recipe's peak rate: 1 for adapters and for an encoder that trains in full,
    `decoder_lr_share` for the rest.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in _trained(network):
        decays = parameter.ndim > 1 and not any(word in name for word in ("token", "embed.", "embeddings", "biases"))
        at_full_rate = ".lora_" in name or (recipe.trainable == "all" and "image_encoder" in name)
        groups.setdefault((at_full_rate, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "lr": recipe.lr * share,
            "lr_share": share,
        }
        for (at_full_rate, decays), parameters in groups.items()
        for share in (1.0 if at_full_rate else recipe.decoder_lr_share,)
    ]


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Parameters in all, and of them trainable."""
    total = sum(parameter.numel() for parameter in network.parameters())
    return total, sum(parameter.numel() for _, parameter in _trained(network))


def _trained(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad)
