"""Changes of intensity, made on the device that trains."""

import torch
from torch import Tensor


class Intensity:
    """Gamma, contrast, brightness, balance of channels, noise, inversion: each of a sample by its own chance.

    Drawn once for a batch, so that all slices of a sample change alike.
    """

    def __init__(self, count: int, probability: float, device: torch.device) -> None:
        """Args: count: samples; probability: of each change of a sample (an eighth of it for inversion)."""

        def drawn(low: float, high: float, neutral: float, channels: int = 1) -> Tensor:
            values = torch.empty(count, channels, 1, 1, device=device).uniform_(low, high)
            chosen = torch.rand(count, 1, 1, 1, device=device) < probability
            return torch.where(chosen, values, torch.full_like(values, neutral))

        self._gamma = drawn(-0.6, 0.6, 0.0).exp()
        self._contrast, self._brightness = drawn(0.65, 1.3, 1.0), drawn(-0.12, 0.12, 0.0)
        self._balance = drawn(0.85, 1.15, 1.0, channels=3)
        self._noise = drawn(0.0, 0.06, 0.0)  # standard deviation
        self._inverted = torch.rand(count, 1, 1, 1, device=device) < probability / 8

    def apply(self, images: Tensor, masked: Tensor) -> Tensor:
        """Images (B, 3, s, s) in [0, 1], changed; greys stay grey.

        Args:
            masked: (B,): the third channel is a mask, and stays as it is.
        """
        is_mask = masked[:, None, None, None]
        colour = (images[:, :1] != images[:, 2:]).flatten(1).any(dim=1)[:, None, None, None] & ~is_mask
        changed = self._change(images, torch.where(colour, self._balance, torch.ones_like(self._balance)))
        return torch.cat([changed[:, :2], torch.where(is_mask, images[:, 2:], changed[:, 2:])], dim=1)

    def apply_to_slices(self, slices: Tensor) -> Tensor:
        """Single slices (B, s, s) in [0, 1], changed as those of `apply`."""
        return self._change(slices[:, None], torch.ones_like(self._gamma))[:, 0]

    def _change(self, images: Tensor, balance: Tensor) -> Tensor:
        changed = images.clamp(min=1e-6) ** self._gamma * self._contrast + self._brightness
        changed = changed * balance + self._noise * torch.randn_like(images[:, :1])
        changed = changed.clamp(0, 1)
        return torch.where(self._inverted, 1 - changed, changed)


def stretch(pixels: Tensor, span: Tensor) -> Tensor:
    """Network input in [0, 1] of pixels (B, C, s, s) uint8, by the span (B, 2) that becomes 0 and 1."""
    low, high = span[:, 0, None, None, None], span[:, 1, None, None, None]
    return ((pixels.float() - low) / (high - low).clamp(min=1)).clamp(0, 1)
