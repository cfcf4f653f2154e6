"""One network with weights in every place, and the export of one like it, for all tests of this folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.views.ladder import ViewLadder
from export.checks.parity import Parity
from export.model_files.model import export_model
from export.model_files.options import ExportOptions
from train.baseline.program import torch_threads
from train.networks import tiny_vit
from train.networks.litemedsam import LiteMedSAM

LADDER = ViewLadder((56,), box_share=0.72, least_scale=0.85)


@dataclass(frozen=True)
class Exported:
    """A checkpoint and the model folder made of it."""

    checkpoint: Path
    folder: Path
    parity: list[Parity]


@contextmanager
def small_encoder() -> Iterator[None]:
    """LiteMedSAM with a TinyViT of one block a stage and of a quarter of its width: no layer less, a tenth of the work.

    Traced and quantized at its full size, it is the public checkpoint that `tests/test_golden_real.py` exports.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_vit, "DEPTHS", (1, 1, 1, 1))
        patch.setattr(tiny_vit, "WIDTHS", (16, 32, 40, 80))
        yield


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    """For modules that export the small network themselves."""
    with small_encoder():
        yield


@pytest.fixture(scope="session")
def network() -> LiteMedSAM:
    """Of full size."""
    return with_weights_everywhere()


@pytest.fixture(scope="session")
def small_network() -> LiteMedSAM:
    """What `exported` is made of."""
    with small_encoder():
        return with_weights_everywhere()


def with_weights_everywhere() -> LiteMedSAM:
    """Random weights, no scale left at one and no shift at zero: what is folded into a neighbour shows."""
    import torch

    torch.manual_seed(0)
    network = LiteMedSAM().eval()
    for name, value in network.state_dict().items():
        if name.endswith(("bias", "attention_biases", "running_mean")):
            value += 0.1 * torch.randn_like(value)
        elif name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            value *= 1 + 0.2 * torch.rand_like(value)
    return network


@pytest.fixture(scope="session")
def exported(small_network: LiteMedSAM, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The network exported as users do it, with the default bounds."""
    import torch

    folder = tmp_path_factory.mktemp("exported")
    torch.save(small_network.state_dict(), folder / "random.pth")
    options = ExportOptions(licence="Apache-2.0", training_data="none, random weights", views=LADDER)
    with torch_threads(1), small_encoder(), pytest.MonkeyPatch.context() as patch:  # two threads wait for each other
        patch.setattr("export.checks.speed.ROUNDS", 1)
        patch.setattr("export.checks.speed.BOX_COUNTS", (1, 2))
        patch.setattr("export.checks.speed.VIEWS", 1)
        parity = export_model(folder / "random.pth", folder / "model", options)
    return Exported(folder / "random.pth", folder / "model", parity)
