"""What a few minutes of training do by each way: LoRA, parts, all weights, drawn otherwise, without whole data sets.

Every way starts from the public LiteMedSAM, sees as many samples in views of 56 px, and is scored on the same cases.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge.data.case import Case
from edge.data.modality import dataset_in_name
from edge.errors import RunError
from edge.system.cores import available_cores
from edge.views.ladder import ViewLadder
from train.data.cases import find_sources
from train.data.placement import BOX_SHARE
from train.networks.adapter import load_merged
from train.networks.checkpoint import read_checkpoint
from train.networks.litemedsam import LiteMedSAM
from train.networks.weights import resolve
from train.recipe import load_recipe, to_toml
from train.records.start import RECIPE, RUN
from train.run import ADAPTER, BEST
from train.tasks.views import LEAST_SCALE
from train.validation import read_validation, validate

PX, SAMPLES = 56, 16  # of a view; of a step
ALL = 100_000  # cases
SLICES = 3  # of a volume that are scored
MOST_BOXES = 40  # of a case that is scored
UNSEEN_CASES = 60  # of each data set that is left out, of those that would have trained
LEFT_OUT = ("KvasirSEG", "JSRT")
BASE = "public LiteMedSAM, untrained"
SHIPS = "LoRA of rank 64, decoder and convolutions (ships)"
UNSEEN = "the same, KvasirSEG and JSRT left out"
ALONE = ("trainable=lora", "train_beside=[]")
WAYS: dict[str, tuple[str, ...]] = {
    SHIPS: (),
    "LoRA of rank 4, encoder only": (*ALONE, "lora_rank=4", "lora_alpha=4"),
    "LoRA of rank 16, encoder only": (*ALONE, "lora_rank=16", "lora_alpha=16"),
    "LoRA of rank 64, encoder only": ALONE,
    "decoder only": ("trainable=decoder", "train_beside=[]", "decoder_lr_share=1.0"),
    "all weights": ("trainable=all", "lr=3e-4"),
    "drawn in proportion": ("sampling=proportional",),
    UNSEEN: ('leave_out=["KvasirSEG", "JSRT", "JSRTclav"]',),  # the last are of the same pictures
}

Scores = dict[str, float]  # case -> DSC


@dataclass(frozen=True)
class Settings:
    """What all ways have in common."""

    data: Path
    validation: Path
    runs: Path  # folder of the runs; those that are done are not done again
    steps: int
    seeds: int


def trained(settings: Settings) -> dict[str, Any]:
    """Each way's trainable parameters, and the DSC of every case by each seed."""
    base = resolve(Path("litemedsam"))
    cases = _few_boxes(read_validation(find_sources([settings.validation]), ALL, SLICES).cases)
    unseen = dict(case for dataset in LEFT_OUT for case in _of(settings.data, dataset).items())
    ways: dict[str, Any] = {BASE: {"trainable": 0, "dsc": [_scores(settings.runs / "base.json", base, None, cases)]}}
    ways[BASE]["unseen"] = [_scores(settings.runs / "unseen.json", base, None, unseen)]
    with ThreadPoolExecutor(settings.seeds) as side_by_side:
        for way in WAYS:
            runs = list(side_by_side.map(partial(_run, settings, way), range(settings.seeds)))
            plan = json.loads((runs[0] / RUN).read_text(encoding="utf-8"))["plan"]
            dsc = side_by_side.map(lambda run: _scores(run / "scores.json", base, run, cases), runs)
            ways[way] = {"trainable": plan["trainable"], "dsc": list(dsc)}
            if way == UNSEEN:
                dsc = side_by_side.map(lambda run: _scores(run / "unseen.json", base, run, unseen), runs)
                ways[way]["unseen"] = list(dsc)
    return {"steps": settings.steps, "samples": settings.steps * SAMPLES, "seeds": settings.seeds, "ways": ways}


def training_pairs(ways: Mapping[str, Any]) -> list[tuple[str, str, str, list[Scores], list[Scores]]]:
    """One way, another, the cases that are meant, and the DSC of both by seed."""
    pairs = [(SHIPS, other) for other in (BASE, "decoder only", "all weights", "drawn in proportion")]
    pairs += [(f"LoRA of rank {rank}, encoder only", "all weights") for rank in (4, 16, 64)]
    found = [(one, other, "val", ways[one]["dsc"], ways[other]["dsc"]) for one, other in pairs]
    for dataset in LEFT_OUT:
        tuned, base = ([_only(scores, dataset) for scores in ways[way]["unseen"]] for way in (UNSEEN, BASE))
        found.append((UNSEEN, BASE, f"{dataset}, never seen", tuned, base))
    return found


def _run(settings: Settings, way: str, seed: int) -> Path:
    """The folder of a run that is done.

    Raises:
        RunError: the folder holds a run of another way or of other steps.
    """
    out = settings.runs / f"{list(WAYS).index(way)}-{seed}"
    common = (
        f"views={{{PX}={SAMPLES}}}", "walks={}", f"max_steps={settings.steps}", f"warmup_steps={settings.steps // 10}",
        "ema=0.98", "validation_cases=0", f"seed={seed}",
    )  # fmt: skip
    overrides = (*common, *WAYS[way])
    recipe = to_toml(load_recipe("litemedsam-lora", overrides))
    if (out / RECIPE).exists() and (out / RECIPE).read_text(encoding="utf-8") != recipe:
        raise RunError(f"{out}: holds a run by another recipe; give another folder for the runs, or remove this one")
    if (out / ADAPTER).exists() or (out / BEST).exists():
        return out
    command = [sys.executable, "-m", "edge", "train", "litemedsam-lora", *overrides, "--base", "litemedsam"]
    command += ["--data", str(settings.data), "--val", str(settings.validation), "--out", str(out)]
    print(f"{way}, seed {seed}", file=sys.stderr)
    threads = {"OMP_NUM_THREADS": str(max(1, available_cores() // settings.seeds))}
    again = ["--resume"] if (out / RUN).exists() else []
    subprocess.run([*command, *again], check=True, stdout=sys.stderr, env={**os.environ, **threads})
    return out


def _scores(kept: Path, base: Path, run: Path | None, cases: Mapping[str, Case]) -> Scores:
    """DSC of every case by the base, or by what a run made of it; measured once and kept."""
    if not kept.exists():
        network = LiteMedSAM()
        network.load_state_dict(_state(base, run))
        rows = validate(network, cases, ViewLadder((PX,), BOX_SHARE, LEAST_SCALE)).rows
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({row.name: round(row.scores["dice"], 5) for row in rows}), encoding="utf-8")
    found: Scores = json.loads(kept.read_text(encoding="utf-8"))
    return found


def _state(base: Path, run: Path | None) -> dict[str, Any]:
    if run is None:
        return read_checkpoint(base)
    return load_merged(base, run / ADAPTER) if (run / ADAPTER).exists() else read_checkpoint(run / BEST)


def _few_boxes(cases: Mapping[str, Case]) -> dict[str, Case]:
    return {name: case for name, case in cases.items() if len(case.boxes) <= MOST_BOXES}


def _of(data: Path, dataset: str) -> Mapping[str, Case]:
    """Cases of a data set that would have trained."""
    return read_validation(
        [path for path in find_sources([data]) if dataset_in_name(path.stem) == dataset], UNSEEN_CASES, 1
    ).cases


def _only(scores: Scores, dataset: str) -> Scores:
    return {name: dsc for name, dsc in scores.items() if dataset_in_name(name) == dataset}
