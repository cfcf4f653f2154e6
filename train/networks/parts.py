"""What of the network trains, and how it starts."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from edge.errors import RunError
from train.networks.build import LITEMEDSAM, Network
from train.networks.lora import LoraOptions, add_lora
from train.networks.tiny_vit import TinyViT
from train.recipe import Recipe

# A single box prompt never touches these; training them would only keep processes waiting for their gradients.
UNUSED = (
    "prompt_encoder.point_embeddings.0", "prompt_encoder.point_embeddings.1", "prompt_encoder.not_a_point_embed",
    "prompt_encoder.mask_downscaling", "mask_decoder.output_hypernetworks_mlps.1",
    "mask_decoder.output_hypernetworks_mlps.2", "mask_decoder.output_hypernetworks_mlps.3",
)  # fmt: skip
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
    """Tensors that train in full although adapters train too, batch statistics included, by their public names."""
    trained = {
        name.replace(".base_layer", ""): parameter.detach()
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and ".lora_" not in name
    }
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight.requires_grad:
            trained |= {f"{name}.{key}": buffer.detach() for key, buffer in module.named_buffers()}
    return trained


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


def parameter_groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters that train, for an optimiser: matrices decay, biases, scales and learned tokens do not.

    `lr_share` of a group is its part of the recipe's rate: `decoder_lr_share` outside of the encoder, else 1.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in _trained(network):
        decays = parameter.ndim > 1 and not any(word in name for word in ("token", "embed.", "embeddings", "biases"))
        groups.setdefault(("image_encoder" in name, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": recipe.weight_decay if decays else 0.0,
            "lr_share": 1.0 if in_encoder else recipe.decoder_lr_share,
        }
        for (in_encoder, decays), parameters in groups.items()
    ]


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Parameters in all, and of them trainable."""
    total = sum(parameter.numel() for parameter in network.parameters())
    return total, sum(parameter.numel() for _, parameter in _trained(network))


def _trained(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad)
