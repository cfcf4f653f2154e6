"""A checkpoint with a LoRA adapter merged into it, checked against the two side by side."""

from pathlib import Path

import torch
from torch import Tensor

from edge.errors import ModelError
from train.networks.adapter import load_merged, read_adapter
from train.networks.checkpoint import read_checkpoint
from train.networks.litemedsam import LiteMedSAM
from train.networks.lora import LoraOptions, add_lora, scale_adapter
from train.networks.sam_modeling import decode_tokens
from train.networks.tiny_vit import EMBEDDING_WIDTH, STRIDE

MAX_DIFFERENCE = 1e-5  # of the largest value of an embedding, or of logits
CHECKED_PX = 64  # of an image; windows of every stage are padded as in a frame, and float64 takes its time


def merged_network(base: Path, adapter: Path, scale: float = 1.0) -> LiteMedSAM:
    """The network of `base` with `adapter` merged exactly, in evaluation mode.

    Args:
        base: checkpoint in the public layout that the adapter was trained on.
        adapter: folder that `samedge train` wrote.
        scale: 0 is the base, 1 what was trained; see `train.networks.lora.scale_adapter`.

    Raises:
        ModelError: either cannot be read, the adapter was trained on another base (or is in this one already), it
            matches no layer, or the merged network does not answer as the base with the adapter beside it.
    """
    merged = LiteMedSAM()
    merged.load_state_dict(load_merged(base, adapter, scale))
    found = _answers(merged.eval())
    expected = _answers(_side_by_side(base, adapter, scale))
    merged.float()
    for part in expected:
        difference = float((found[part] - expected[part]).abs().max() / expected[part].abs().max())
        if not difference <= MAX_DIFFERENCE:
            raise ModelError(
                f"{adapter}: the merged {part} differs from base and adapter side by side by {difference:.1e} of the "
                f"largest value, {MAX_DIFFERENCE:.0e} is allowed; the adapter's files are damaged or of another version"
            )
    return merged


@torch.inference_mode()
def _answers(network: LiteMedSAM) -> dict[str, Tensor]:
    """To an image, and to an embedding with a prompt, in float64, where no CPU's order of operations plays a part."""
    random, grid = torch.Generator().manual_seed(0), CHECKED_PX // STRIDE

    def some(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=random)

    encoder, decoder = network.double().image_encoder, network.mask_decoder
    image, embedding, position = some(1, 3, CHECKED_PX, CHECKED_PX), *some(2, 1, EMBEDDING_WIDTH, grid, grid)
    logits, _ = decode_tokens(decoder, embedding, position, some(1, 2, EMBEDDING_WIDTH), (0,))
    return {"encoder": encoder(image), "decoder": logits}


def _side_by_side(base: Path, adapter: Path, scale: float) -> LiteMedSAM:
    """The base with peft's layers in it, their numbers the adapter's, and what was trained in full beside them."""
    config, tensors = read_adapter(adapter)
    network, state = LiteMedSAM(), read_checkpoint(base)
    network.load_state_dict(state)
    named = (tuple(config.get(key, ())) for key in ("target_modules", "blocks", "decoder_targets"))
    options = LoraOptions(config["r"], config["lora_alpha"], 0.0, *named)
    add_lora(network, options)
    names = {key.replace(".default.weight", "").replace(".base_layer", ""): key for key in network.state_dict()}
    scaled = scale_adapter(state, tensors, scale)
    network.load_state_dict({names[key]: value for key, value in scaled.items()}, strict=False)
    return network.eval()
