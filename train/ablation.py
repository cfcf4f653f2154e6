"""Does it help? The paper's three claims on our data: `python -m train.ablation_cli --help`

lora       a base that never saw a data set, and that base with LoRA trained on this data set alone, on its val cases
sampling   LoRA on all data from one base, proportional and balanced, the same number of steps; small modalities apart
merge      argmax over boxes, later boxes over earlier ones, and the rules that ship, with one model's logits

Trainings are runs of `samedge train` in folders of OUT. Stopped, it goes on where it was.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from edge.case import Case, modality_of
from edge.cores import available_cores
from edge.errors import RunError
from edge.geometry import Frame
from edge.machine import describe_machine
from edge.merge import label_dtype, merge, nested_boxes
from edge.model_folder import DEFAULT_MODEL
from edge.npz import write_whole
from edge.preprocess import prepare
from edge.report import write_json
from edge.restore import positive_window
from edge.runtime import Engine, load_engine
from edge.score import mean_dice
from edge.table import format_table
from train.cross_validation import DONE, read_cases
from train.data.cases import dataset_of, find_sources, truth_of
from train.display import Say
from train.networks.checkpoint import load_weights, read_checkpoint
from train.networks.litemedsam import LiteMedSAM
from train.networks.lora import load_merged
from train.run import ADAPTER, BEST, RUN, write_cases
from train.validate import CaseRow, Validation, mean_scores, read_validation, summarize, validate

TABLE, RESULT, SETTINGS = "ablation.csv", "ablation.json", "settings.json"
EVERY_RUN = (
    "crops=false",
    "region_px=56",
    "batch=8",
    "cache_px=384",
    "validation_cases=0",
    "save_every=100",
    "compile=true",
)
FROM_NOTHING = ("zoom=0.45", "jitter_px=6")
ADAPTING = ("lr=1e-3", "schedule=cosine", "warmup_steps=20", "jitter_px=6")  # few steps: the paper's 5e-5 moves nothing
SMALL_SHARE = 0.5  # of an even share of the training cases: a modality that has less is small
MERGED = "Microscopy"
BLOCK = 8  # boxes decoded at once


@dataclass(frozen=True)
class Settings:
    """On what, and how much of it."""

    data: Path  # folders train/ and val/ of labelled cases
    out: Path
    unseen: str = "USGRA"  # data set that the base does not see
    base: Path | None = None  # where part sampling starts; None: the base of part lora
    model: Path = DEFAULT_MODEL  # of part merge
    ellipse_steps: int = 400
    base_steps: int = 800
    lora_steps: int = 250
    sampling_steps: int = 250
    cases: int = 88  # to validate part sampling on, evenly over the modalities
    devices: int = 1  # processes per training
    overrides: tuple[str, ...] = ()  # of every training, over EVERY_RUN


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    part: str
    variant: str
    group: str  # data set, modality, or several together
    cases: int
    dsc: float  # mean over the cases, of several modalities that over these


def run_ablation(settings: Settings, parts: Sequence[str], say: Say) -> list[Row]:
    """The rows of these PARTS, kept as CSV and, with settings and machine, as JSON in `settings.out`.

    Raises:
        RunError: a training failed; what it said stands above.
        CaseError, ModelError: data or model cannot be used.
    """
    kept = _hold_to(settings)
    rows = [row for part in parts for row in PARTS[part](settings, say)]
    write_whole(settings.out / TABLE, format_table(table(rows)))
    content = {"settings": kept, "machine": describe_machine(), "rows": [asdict(row) for row in rows]}
    write_json(settings.out / RESULT, content)
    return rows


def table(rows: Sequence[Row]) -> list[list[str]]:
    """Rows of texts, header first."""
    return [
        ["part", "variant", "group", "cases", "dsc"],
        *([row.part, row.variant, row.group, str(row.cases), f"{row.dsc:.4f}"] for row in rows),
    ]


def compare_lora(settings: Settings, say: Say) -> list[Row]:
    """A data set's val cases, by a base that never saw it, without and with LoRA on it."""
    base = _unseeing_base(settings, say)
    adapter = _train(settings, say, "lora", base, f'only=["{settings.unseen}"]', settings.lora_steps)
    sources = [path for path in find_sources([settings.data / "val"]) if dataset_of(path.stem) == settings.unseen]
    cases = read_validation(sources, len(sources), 1).cases
    rows = []
    for variant, weights in (("base", read_checkpoint(base)), ("base + LoRA", load_merged(base, adapter))):
        found = _validated(settings.out / f"lora-{variant}.csv", weights, cases)
        rows.append(Row("lora", variant, settings.unseen, found.cases, found.dsc))
    return rows


def compare_sampling(settings: Settings, say: Say) -> list[Row]:
    """Each modality, all, and the small ones together, by LoRA under either sampling."""
    base = settings.base or _unseeing_base(settings, say)
    small = small_modalities(settings.data / "train")
    cases = read_validation(find_sources([settings.data / "val"]), settings.cases, 1).cases
    rows = []
    for variant in ("base", "proportional", "balanced"):
        weights = read_checkpoint(base)
        if variant != "base":
            name = f"sampling-{variant}"
            weights = load_merged(
                base, _train(settings, say, name, base, f"sampling={variant}", settings.sampling_steps)
            )
        found = _validated(settings.out / f"sampling-{variant}-cases.csv", weights, cases)
        rows += sampling_rows(variant, found, small)
    return rows


def sampling_rows(variant: str, found: Validation, small: Sequence[str]) -> list[Row]:
    """Rows of all modalities, of the small ones together, and of each; a mean over modalities is unweighted."""
    counts = Counter(row.group for row in found.rows)
    rows = []
    for group, chosen in (("all", list(counts)), (" + ".join(small), small)):
        dsc = float(np.mean([found.by_modality[modality] for modality in chosen]))
        rows.append(Row("sampling", variant, group, sum(counts[modality] for modality in chosen), dsc))
    return rows + [Row("sampling", variant, name, counts[name], dsc) for name, dsc in found.by_modality.items()]


def small_modalities(folder: Path) -> list[str]:
    """Modalities with less than SMALL_SHARE of an even share of the folder's cases."""
    counts = Counter(modality_of(source.stem) for source in find_sources([folder]))
    return sorted(name for name, cases in counts.items() if cases < SMALL_SHARE * counts.total() / len(counts))


def compare_merging(settings: Settings, say: Say) -> list[Row]:
    """The val cases of one modality, the same logits merged in each way."""
    sources = [path for path in find_sources([settings.data / "val"]) if modality_of(path.stem) == MERGED]
    cases = [case for case in read_validation(sources, len(sources), 1).cases.values() if not case.is_volume]
    say(f"merging {len(cases)} cases by {settings.model}")
    engine = load_engine(settings.model)
    scores: dict[str, list[CaseRow]] = {}
    for case in cases:
        for rule, labels in merged_ways(case, engine).items():
            scores.setdefault(rule, []).append(CaseRow(case.name, MERGED, {"dice": mean_dice(truth_of(case), labels)}))
    for rule, rows in scores.items():
        write_cases(settings.out / f"merge-{rule}.csv", summarize(rows))
    return [Row("merge", rule, MERGED, len(rows), mean_scores(rows)["dice"]) for rule, rows in scores.items()]


def merged_ways(case: Case, engine: Engine) -> dict[str, npt.NDArray]:
    """Rule -> label map (H, W) of a 2D case; all from the same logits."""
    height, width = case.image.shape[:2]
    frame = Frame(height, width, engine.description.input_size)
    embedding = engine.encode(prepare(case.image, frame.size, engine.description.normalisation)[None])
    prompts = frame.boxes_to_model(case.boxes)
    blocks = [engine.decode(embedding, prompts[start : start + BLOCK]) for start in range(0, len(prompts), BLOCK)]
    windows = [positive_window(logits, row + 1, frame) for row, logits in enumerate(np.concatenate(blocks))]
    rules: dict[str, dict[str, Any]] = {
        "argmax": {},
        "last box wins": {"last_wins": True},
        "as shipped": {"nested": nested_boxes(case.boxes), "within": case.boxes},
    }
    ways = {}
    for rule, options in rules.items():
        ways[rule] = np.zeros((height, width), label_dtype(len(case.boxes)))
        merge([window for window in windows if window is not None], ways[rule], **options)
    return ways


PARTS: dict[str, Callable[[Settings, Say], list[Row]]] = {
    "lora": compare_lora,
    "sampling": compare_sampling,
    "merge": compare_merging,
}


def _unseeing_base(settings: Settings, say: Say) -> Path:
    """A network trained from nothing on everything but one data set."""
    hidden = f'leave_out=["{settings.unseen}"]'
    return _train(settings, say, "base", None, hidden, settings.base_steps, f"ellipse_steps={settings.ellipse_steps}")


def _train(settings: Settings, say: Say, name: str, base: Path | None, choice: str, steps: int, *more: str) -> Path:
    """The result of a training in `settings.out / name`: LoRA on a base, or from nothing."""
    folder = settings.out / name
    result = folder / (ADAPTER if base else BEST)
    if (folder / DONE).exists():
        return result
    recipe = "litemedsam-lora" if base else "litemedsam-base"
    given = (
        *EVERY_RUN,
        *(ADAPTING if base else FROM_NOTHING),
        choice,
        f"max_steps={steps}",
        *more,
        *settings.overrides,
    )
    command = [sys.executable, "-m", "edge", "train", recipe, *given, f"--data={settings.data / 'train'}"]
    command += [f"--out={folder}", f"--devices={settings.devices}", *([f"--base={base}"] if base else [])]
    command += ["--resume"] if (folder / RUN).exists() else []
    say(f"{name}: {' '.join(command[1:])}")
    threads = str(max(1, available_cores() // settings.devices))
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": threads}, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise RunError(f"{name}: training ended with exit code {done.returncode}")
    write_whole(folder / DONE, b"")
    return result


def _validated(path: Path, weights: dict[str, Tensor], cases: Mapping[str, Case]) -> Validation:
    """Scores of weights on cases, kept at `path` and read from there the next time."""
    if not path.exists():
        network = LiteMedSAM()
        load_weights(network, weights, path.stem)
        network.to("cuda" if torch.cuda.is_available() else "cpu")
        write_cases(path, validate(network, cases))
    return summarize(read_cases(path))


def _hold_to(settings: Settings) -> dict[str, Any]:
    """The settings as JSON has them, written into the folder, or seen to be those it began with.

    Raises:
        RunError: they are not.
    """
    path, content = settings.out / SETTINGS, json.loads(json.dumps(asdict(settings), default=str))
    settings.out.mkdir(parents=True, exist_ok=True)
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != content:
        raise RunError(f"{settings.out}: began with other settings, see {SETTINGS} there; give another folder")
    write_json(path, content)
    return content
