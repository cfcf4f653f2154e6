"""What comes next in an epoch: modalities by their shares, kinds of samples by a layout, positions by batches.

Everything is a function of seed, epoch and position alone. Any worker, process or resumed run that asks for the same
position gets the same sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from edge.errors import RunError

POLICIES = ("balanced", "proportional", "uniform")
OTHERS = "others"  # in a table of shares: divided evenly among the modalities it does not name
BALANCED_SHARES = {"CT": 0.40, "MR": 0.10, OTHERS: 0.50}  # litemedsam-lora-multibox
# Size of a view in px -> extent in px of the objects that are drawn for it, least and most.
VIEW_EXTENTS = {56: (1, 78), 112: (26, 170), 224: (60, 10_000)}


def modality_shares(present: dict[str, int], policy: str, table: dict[str, float]) -> dict[str, float]:
    """The share of draws of each modality, summing to 1.

    A modality that the table names and the data lacks gives its share to the rest, in proportion.

    Args:
        present: modality -> number of cases.
        policy: `balanced` by the table, `proportional` to the cases, `uniform` over the modalities.
        table: modality or OTHERS -> share; used by `balanced` only.

    Raises:
        RunError: an unknown policy, nothing to draw from, or a table that gives nothing to any modality present.
    """
    if not present:
        raise RunError("no case is left to train on: hold_out, leave_out or only take all of them")
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


@dataclass(frozen=True)
class Place:
    """What one place of a batch holds."""

    size: int  # px of the view
    unrolled: bool  # two steps of a walk: the network's mask of the first is given to the second


@dataclass(frozen=True)
class Layout:
    """What a step's batch is made of."""

    views: dict[int, int]  # size in px -> samples that are answered once
    walks: dict[int, int]  # size in px -> samples of two steps, the first one's answer prompting the second

    @classmethod
    def of(cls, views: dict[str, int], walks: dict[str, int]) -> "Layout":
        """The layout of a recipe's tables.

        Raises:
            RunError: a size that no view has, a count that is not a positive whole number, or no sample at all.
        """
        for key, table in (("views", views), ("walks", walks)):
            if unknown := [size for size in table if size not in map(str, VIEW_EXTENTS)]:
                raise RunError(f"{key}: sizes are {', '.join(map(str, VIEW_EXTENTS))} px, got {', '.join(unknown)}")
            if wrong := [count for count in table.values() if type(count) is not int or count < 1]:
                raise RunError(
                    f"{key}: counts must be whole numbers from 1 on, got {wrong[0]!r}; or leave the size out"
                )
        if not views and not walks:
            raise RunError("views and walks: both are empty, no samples are left; give one of them some: { 56 = 8 }")
        return cls(*({int(size): count for size, count in table.items()} for table in (views, walks)))

    @property
    def groups(self) -> list[tuple[Place, int]]:
        """Each kind of sample and how many of it a batch holds, in the batch's order."""
        tables = ((self.views, False), (self.walks, True))
        return [(Place(size, unrolled), count) for table, unrolled in tables for size, count in table.items()]

    @property
    def places(self) -> list[Place]:
        """What each place of a batch holds."""
        return [place for place, count in self.groups for _ in range(count)]


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
