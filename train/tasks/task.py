"""What the loop needs to know of a task: its samples by position, their loss, a validation."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn
from torch.utils.data import Dataset

from train.validation import Validation


@dataclass(frozen=True)
class DataFacts:
    """What a task trains on."""

    cases: dict[str, int]  # modality, organ or data set -> training cases
    slices: int  # images or slices in all
    left_out: list[str] = field(default_factory=list)  # broken or empty, one line each
    shares: dict[str, float] = field(default_factory=dict)  # of `cases`' keys -> share of draws
    sha256: str = ""  # of names, sizes, dates and options


class Task(Protocol):
    """Samples of an epoch by position, so that a resumed run goes on with the next one; what they cost; how good."""

    facts: DataFacts
    validates: bool

    def samples(self, epoch: int) -> Dataset:
        """The samples of an epoch; a position always gives the same one."""

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        """A batch, with `to(device)`, that `loss` takes; not a method, so that no process gets a copy of the task."""

    def kinds(self) -> list[int]:
        """How many samples of each kind a batch holds, in its order; samples of a kind cost the same."""

    def loss(self, network: Any) -> nn.Module:
        """A module from a batch to its loss; holds the network, so that Fabric wraps everything with a gradient."""

    def validate(self, network: Any) -> Validation:
        """How good the network is, in evaluation mode, on what it does not train on."""
