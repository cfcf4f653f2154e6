"""Networks by name, with fresh weights or a checkpoint's."""

from torch import Tensor

from train.networks.checkpoint import load_weights
from train.networks.litemedsam import LiteMedSAM
from train.sam_systems.network import ENCODERS, SEMANTIC_HEAD, Sam, SamOptions, build_sam, fit_mask_tokens

LITEMEDSAM = "litemedsam"
NETWORKS = (LITEMEDSAM, *ENCODERS)
Network = LiteMedSAM | Sam


def build_network(name: str, options: SamOptions | None = None) -> Network:
    """A network of NETWORKS with fresh weights."""
    return LiteMedSAM() if name == LITEMEDSAM else build_sam(name, options)


def load_base(network: Network, state: dict[str, Tensor], source: str) -> None:
    """Fill a network from a public state dict, every key or nothing; a semantic head, which none has, stays fresh.

    Raises:
        ModelError: lists the keys that are missing, extra or of another shape.
    """
    if isinstance(network, LiteMedSAM):
        load_weights(network, state, source)
        return
    fitted = fit_mask_tokens(state, network.options.channels) if network.options.channels > 1 else state
    head = {key: value for key, value in network.state_dict().items() if key.startswith(SEMANTIC_HEAD)}
    load_weights(network, {**fitted, **head}, source)


def public_state(network: Network) -> dict[str, Tensor]:
    """A network's weights as a base that `load_base` reads: without a semantic head."""
    return {key: value for key, value in network.state_dict().items() if not key.startswith(SEMANTIC_HEAD)}
