"""Validation by the runtime itself: the network that trains as an engine, scored by `edge.scoring.score`."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from edge.choices import PROPAGATED, TRACKED
from edge.data.case import Case
from edge.data.names import case_name
from edge.engines.model_folder import SLICES, WALK, ModelDescription
from edge.errors import CaseError
from edge.pipeline import Options, segment
from edge.scoring.score import mean_dice, mean_without_nan
from edge.views.ladder import ViewLadder
from train.data.cases import distinct_names, read_boxed, truth_of
from train.networks.litemedsam import FRAME_PX, LiteMedSAM
from train.networks.tiny_vit import EMBEDDING_WIDTH, STRIDE

Array = npt.NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True)
class CaseRow:
    """One case, image or slice that was validated."""

    name: str
    group: str  # modality, organ or data set
    scores: dict[str, float]  # `dice`, and what else the task measures; NaN where there is nothing to say


@dataclass(frozen=True)
class Validation:
    """Mean DSC, 0 to 1."""

    dsc: float  # of the boxes task the unweighted mean over the modalities, of the others that over the rows
    by_modality: dict[str, float]  # or organ, or data set
    cases: int
    rows: tuple[CaseRow, ...] = ()

    def means(self) -> dict[str, float]:
        """Each score's mean over the rows."""
        return mean_scores(self.rows)

    @property
    def cases_hash(self) -> str:
        """Alike for scores that can be compared: of the names of what was validated."""
        return hashlib.sha256("\n".join(sorted(row.name for row in self.rows)).encode(errors="replace")).hexdigest()


class TorchEngine:
    """A network as an `edge.engines.runtime.Engine`."""

    backend = f"torch {torch.__version__}"
    precision = "f32"

    def __init__(self, network: LiteMedSAM, ladder: ViewLadder | None = None, *, walks: bool = False) -> None:
        """What is shown.

        Args:
            ladder: of the views that the network is given; None: whole frames.
            walks: it was trained on walks, so a walk's views hold the neighbouring slice and its mask.
        """
        grid = FRAME_PX // STRIDE
        views = None if ladder is None else asdict(ladder)
        self.description = ModelDescription(
            "training", FRAME_PX, (EMBEDDING_WIDTH, grid, grid), {}, {}, views=views, channels=WALK if walks else SLICES
        )
        self.threads = torch.get_num_threads()
        self._network = network
        self._device = next(network.parameters()).device

    def prepare(self, _batches: Mapping[int, int]) -> None:
        """There is nothing to load."""

    @torch.inference_mode()
    def encode(self, images: Array) -> Array:
        return self._network.image_encoder(torch.from_numpy(images).to(self._device)).cpu().numpy()

    @torch.inference_mode()
    def decode(self, embedding: Array, boxes: Array, within: Array | None = None) -> Array:
        embeddings, prompts = (torch.from_numpy(array).to(self._device) for array in (embedding, boxes))
        return self._network.decode_views(embeddings.expand(len(boxes), -1, -1, -1), prompts).cpu().numpy()


@dataclass(frozen=True)
class ValidationCases:
    """What is validated on."""

    cases: dict[str, Case]  # by a name that no other has, see `distinct_names`
    left_out: list[str]  # one line for each case that cannot be validated on


def read_validation(sources: Sequence[Path], count: int, slices: int) -> ValidationCases:
    """Up to `count` cases, evenly over the modalities and within each over the sources.

    Args:
        slices: volumes are cut to this many around the middle of their boxes' range.
    """
    by_modality: dict[str, list[tuple[str, Case]]] = {}
    left_out = []
    for name, source in zip(distinct_names(sources), sources, strict=True):
        try:
            case = read_boxed(source)
            truth_of(case)
        except CaseError as error:
            left_out.append(name + str(error).removeprefix(case_name(source)))
            continue
        by_modality.setdefault(case.modality, []).append((name, _cut(case, slices) if case.is_volume else case))
    each = max(1, count // max(1, len(by_modality)))
    chosen = [pair for _, pairs in sorted(by_modality.items()) for pair in spread(pairs, each)]
    return ValidationCases(dict(chosen), left_out)


def validate(
    network: LiteMedSAM, cases: Mapping[str, Case], ladder: ViewLadder | None = None, *, walks: bool = False
) -> Validation:
    """The mean DSC of a network, in evaluation mode, over cases with a truth.

    Args:
        ladder: of the views that it is trained on; None: whole frames.
        walks: it is trained on walks, so volumes are walked through; else their boxes are tracked.
    """
    training = network.training
    network.eval()
    engine, options = TorchEngine(network, ladder, walks=walks), Options(method=PROPAGATED if walks else TRACKED)
    rows = []
    for name, case in cases.items():
        dsc = mean_dice(truth_of(case), segment(case, engine, options).labels)
        rows.append(CaseRow(name, case.modality, {"dice": dsc}))
    network.train(training)
    summary = summarize(rows)
    return replace(summary, dsc=mean_without_nan(list(summary.by_modality.values())))


def summarize(rows: Sequence[CaseRow]) -> Validation:
    """The mean DSC over rows and over those of each group."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row.scores["dice"])
    by_group = {group: mean_without_nan(values) for group, values in sorted(groups.items())}
    return Validation(mean_scores(rows)["dice"], by_group, len(rows), tuple(rows))


def spread(items: Sequence[T], count: int) -> list[T]:
    """Up to `count` of them, evenly from the first to the last."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def mean_scores(rows: Sequence[CaseRow]) -> dict[str, float]:
    """Each score's mean over the rows, NaN left out."""
    names = list(dict.fromkeys(name for row in rows for name in row.scores))
    return {name: mean_without_nan([row.scores[name] for row in rows if name in row.scores]) for name in names}


def _cut(case: Case, slices: int) -> Case:
    """The volume's part around the middle of its first box; boxes that do not reach it are dropped, truth included."""
    middle = int((case.boxes[0, 2] + case.boxes[0, 5]) / 2)
    low = max(0, min(middle - slices // 2, len(case.image) - slices))
    high = min(low + slices, len(case.image)) - 1
    kept = np.flatnonzero((case.boxes[:, 2] <= high) & (case.boxes[:, 5] >= low))
    boxes = case.boxes[kept].copy()
    boxes[:, [2, 5]] = np.clip(boxes[:, [2, 5]] - low, 0, high - low)
    truth = truth_of(case)[low : high + 1]
    number = np.zeros(max(int(truth.max()), len(case.boxes)) + 1, dtype=truth.dtype)
    number[kept + 1] = np.arange(1, len(kept) + 1)
    return replace(case, image=case.image[low : high + 1].copy(), boxes=boxes, truth=number[truth])  # not all of it
