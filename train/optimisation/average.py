"""Weights averaged over the steps: what is validated and kept.

`torch.optim.swa_utils` does the averaging. Its AveragedModel would copy the frozen base too, 2.5 GB of SAM's ViT-H.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Average:
    """An exponential moving average of what training changes; with decay 0, nothing is kept."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay, self._updates = decay, 0
        self._live = {name: tensor for name, tensor in _changing(network).items() if decay}
        self._mean = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take a step's weights in; early on the decay is smaller, so that the start is forgotten."""
        self._updates += 1
        average = get_ema_multi_avg_fn(min(self._decay, self._updates / (10 + self._updates)))
        if self._live:
            average(list(self._mean.values()), list(self._live.values()), self._updates)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the network's weights with their average; a second call undoes it."""
        for name, tensor in self._live.items():
            held = tensor.clone()
            tensor.copy_(self._mean[name])
            self._mean[name].copy_(held)

    def state(self) -> dict[str, Any]:
        return {"updates": self._updates, "mean": self._mean}

    def restore(self, state: dict[str, Any]) -> None:
        self._updates = state["updates"]
        for name, tensor in state["mean"].items():
            self._mean[name].copy_(tensor)


def _changing(network: nn.Module) -> dict[str, Tensor]:
    """Parameters that train, and the statistics of batch normalisation that trains with them."""
    live: dict[str, Tensor] = {name: p for name, p in network.named_parameters() if p.requires_grad}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight.requires_grad:
            live |= {f"{name}.{key}": tensor for key, tensor in module.named_buffers() if key.startswith("running")}
    return live
