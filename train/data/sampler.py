"""Which slice and object come next: a function of seed, epoch and position alone.

Because a draw depends on nothing that came before it, any worker, process or resumed run that asks for the same
position gets the same draw.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from edge.errors import RunError
from train.data.cache import Entry

POLICIES = ("balanced", "proportional", "uniform")
Item = TypeVar("Item")
OTHERS = "others"  # in a table of shares: divided evenly among the modalities it does not name
BALANCED_SHARES = {"CT": 0.40, "MR": 0.10, OTHERS: 0.50}  # litemedsam-lora-multibox


@dataclass(frozen=True)
class Draw:
    """One training sample, before it is cut and augmented."""

    entry: int  # position in the cache
    object: int  # row of the entry's objects
    seed: tuple[int, int, int]  # of whatever chance the sample still needs


def modality_shares(present: dict[str, int], policy: str, table: dict[str, float]) -> dict[str, float]:
    """The share of draws of each modality, summing to 1.

    A modality that the table names and the data lacks gives its share to the rest, in proportion.

    Args:
        present: modality -> number of cases.
        policy: `balanced` by the table, `proportional` to the cases, `uniform` over the modalities.
        table: modality or OTHERS -> share; used by `balanced` only.

    Raises:
        RunError: an unknown policy, or a table that gives nothing to any modality present.
    """
    if policy not in POLICIES:
        raise RunError(f"sampling must be one of {', '.join(POLICIES)}, got {policy!r}")
    if policy == "proportional":
        wanted = {modality: float(cases) for modality, cases in present.items()}
    elif policy == "uniform":
        wanted = dict.fromkeys(present, 1.0)
    else:
        others = [modality for modality in present if modality not in table]
        wanted = {modality: table[modality] for modality in present if modality in table}
        wanted |= {modality: table.get(OTHERS, 0.0) / len(others) for modality in others}
    total = sum(wanted.values())
    if total <= 0 or min(wanted.values()) < 0:
        raise RunError(f"shares {table} give nothing to the modalities present ({', '.join(present)})")
    return {modality: share / total for modality, share in wanted.items()}


class Draws:
    """Draws modality by share, then a case, a slice and an object, each uniformly."""

    def __init__(
        self,
        entries: Sequence[Entry],
        modalities: Sequence[str],
        policy: str = "balanced",
        table: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        """Args: modalities: of each entry."""
        cases: dict[str, dict[tuple[int, str], list[int]]] = {}
        for position, (entry, modality) in enumerate(zip(entries, modalities, strict=True)):
            cases.setdefault(modality, {}).setdefault((entry.source, entry.case), []).append(position)
        self._objects = [len(entry.objects) for entry in entries]
        self._seed = seed
        self._cases = {modality: list(by_case.values()) for modality, by_case in sorted(cases.items())}
        counts = {modality: len(by_case) for modality, by_case in self._cases.items()}
        self.shares = modality_shares(counts, policy, BALANCED_SHARES if table is None else table)
        self._modalities = list(self.shares)
        self._bounds = np.cumsum(list(self.shares.values()))

    def draw(self, epoch: int, position: int) -> Draw:
        """The draw at a position of an epoch."""
        seed = (self._seed, epoch, position)
        fractions = np.random.default_rng(seed).random(4)
        kind = min(int(np.searchsorted(self._bounds, fractions[0], side="right")), len(self._bounds) - 1)
        case = _pick(self._cases[self._modalities[kind]], fractions[1])
        entry = _pick(case, fractions[2])
        return Draw(entry, int(fractions[3] * self._objects[entry]), seed)

    def count(self, epoch: int, draws: int) -> Counter[int]:
        """How often each entry comes in the first `draws` of an epoch."""
        return Counter(self.draw(epoch, position).entry for position in range(draws))


@dataclass(frozen=True)
class Batches:
    """The positions of each batch of an epoch that one process takes, from any batch on.

    Process r of w takes the r-th part of every global batch, so w processes with batch b see what one sees with w * b.
    """

    draws: int  # in the epoch
    batch: int  # per process
    rank: int = 0
    processes: int = 1
    start: int = 0  # first batch, for a run that resumes

    def __len__(self) -> int:
        return self.draws // (self.batch * self.processes) - self.start

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(self.start, self.start + len(self)):
            first = (number * self.processes + self.rank) * self.batch
            yield list(range(first, first + self.batch))


def _pick(items: Sequence[Item], fraction: float) -> Item:
    return items[int(fraction * len(items))]
