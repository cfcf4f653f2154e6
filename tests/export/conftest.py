"""One network with weights in every place, and its export, for all tests of this folder."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.views.ladder import ViewLadder
from export.checks.parity import Parity
from export.model_files.model import ExportOptions, export_model
from train.baseline.program import torch_threads
from train.networks.litemedsam import LiteMedSAM

LADDER = ViewLadder((56, 112), box_share=0.72, least_scale=0.85)


@dataclass(frozen=True)
class Exported:
    """A checkpoint and the model folder made of it."""

    checkpoint: Path
    folder: Path
    parity: list[Parity]


@pytest.fixture(scope="session")
def network() -> LiteMedSAM:
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
def exported(network: LiteMedSAM, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The network exported as users do it, with the default bounds."""
    import torch

    folder = tmp_path_factory.mktemp("exported")
    torch.save(network.state_dict(), folder / "random.pth")
    options = ExportOptions(licence="Apache-2.0", training_data="none, random weights", views=LADDER)
    with torch_threads(1), pytest.MonkeyPatch.context() as patch:  # on busy cores two threads wait for each other
        patch.setattr("export.checks.speed.ROUNDS", 1)
        patch.setattr("export.checks.speed.BOX_COUNTS", (1, 2))
        patch.setattr("export.checks.speed.VIEWS", 1)
        parity = export_model(folder / "random.pth", folder / "model", options)
    return Exported(folder / "random.pth", folder / "model", parity)
