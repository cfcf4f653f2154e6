"""What a killed run needs to go on as if it had not been: saved whole, restored whole."""

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from edge.errors import RunError
from train.networks.build import Network
from train.networks.checkpoint import read_tensors, save_atomically
from train.networks.lora import adapter_state
from train.optimisation.average import Average
from train.optimisation.schedule import Schedule

LAST = "last.ckpt"
PARTS = {"network", "optimizer", "schedule", "average", "progress"}


@dataclass
class Progress:
    """How far a run is."""

    step: int = 0
    best: float = -1.0  # validation DSC
    validations_since_best: int = 0
    validated_on: str = ""  # see `train.validation.Validation.cases_hash`; empty: nothing yet

    def begin_anew_on(self, cases_hash: str) -> None:
        """Scores of other cases do not compare: where a resumed run validates on others, the best is yet to come."""
        if not cases_hash:
            return
        if self.validated_on and cases_hash != self.validated_on:
            warnings.warn("validated on other cases than before: the best so far counts no more", stacklevel=2)
            self.best, self.validations_since_best = -1.0, 0
        self.validated_on = cases_hash


@dataclass(frozen=True)
class State:
    """Everything that changes while a run goes on, held together."""

    network: Network
    optimizer: Any  # Fabric's wrapper
    schedule: Schedule
    average: Average
    progress: Progress

    def save(self, out: Path) -> None:
        """Write the run's last checkpoint.

        Raises:
            RunError: the folder cannot be written.
        """
        content = {
            "network": _own_state(self.network),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "average": self.average.state(),
            "progress": asdict(self.progress),
        }
        save_atomically(content, out / LAST)

    def restore(self, out: Path) -> None:
        """Take the run's last checkpoint in.

        Raises:
            ModelError: it is damaged.
            RunError: there is none, or it is of another recipe.
        """
        path = out / LAST
        if not path.exists():
            raise RunError(f"{path}: no checkpoint to resume from; start without --resume")
        content = read_tensors(path)
        if not isinstance(content, dict) or not set(content) >= PARTS:
            raise RunError(f"{path}: not a run's checkpoint; start in another folder")
        if set(content["network"]) != set(_own_state(self.network)):
            raise RunError(f"{path}: was written by another recipe; resume with the recipe.toml beside it")
        self.network.load_state_dict(content["network"], strict=False)
        self.optimizer.load_state_dict(content["optimizer"])
        self.schedule.restore(content["schedule"])
        self.average.restore(content["average"])
        vars(self.progress).update(content["progress"])


def _own_state(network: Network) -> dict[str, Tensor]:
    """What the base does not hold: everything, or with adapters only these and what trains beside them."""
    if not adapter_state(network):
        return network.state_dict()
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    return {name: tensor for name, tensor in network.state_dict().items() if name in trained}
