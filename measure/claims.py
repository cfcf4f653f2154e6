"""The project's claims, held up to cases: `make claims`, or `python -m measure.claims --help`.

Writes `docs/results/runtime-claims.json` or `training-claims.json`. Runs that are done stay in RUNS, so that training
that was cut off goes on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.data.modality import modality_of
from edge.engines.model_folder import DEFAULT_MODEL, model_hash, read_description
from edge.reports.report import now, write_json
from edge.system.machine import describe_machine
from measure.runtime_claims import measured, runtime_pairs
from measure.training_claims import Settings, trained, training_pairs

RESULTS = Path(__file__).parents[1] / "docs" / "results"
DRAWS, INTERVAL = 10_000, (2.5, 97.5)  # of the bootstrap; percentiles: 95 %

Scores = dict[str, float]  # case -> DSC
Pairs = Sequence[tuple[str, str, str, Sequence[Scores], Sequence[Scores]]]


def compared(pairs: Pairs) -> list[dict[str, Any]]:
    """Each pair of ways, on which cases, and `difference` of the two."""
    return [
        {"way": one, "other": other, "on": on, **difference(mine, theirs)} for one, other, on, mine, theirs in pairs
    ]


def difference(mine: Sequence[Scores], theirs: Sequence[Scores], seed: int = 0) -> dict[str, Any]:
    """How much higher one way's mean DSC is than another's: paired by case, each the mean over its seeds.

    Args: mine, theirs: case -> DSC, for each seed of training.

    Returns:
        Cases that both have, both means, their difference and its 95 % interval: a bootstrap over the cases.
    """
    names = sorted(set.intersection(*(set(scores) for scores in (*mine, *theirs))))
    one, other = (
        np.array([[scores[name] for name in names] for scores in side]).mean(axis=0) for side in (mine, theirs)
    )
    drawn = np.random.default_rng(seed).integers(0, len(names), (DRAWS, len(names)))
    low, high = np.percentile((one - other)[drawn].mean(axis=1), INTERVAL)
    return {
        "cases": len(names),
        "dsc": float(one.mean()),
        "other_dsc": float(other.mean()),
        "difference": float((one - other).mean()),
        "interval": [float(low), float(high)],
    }


def main() -> None:
    """Measure, compare, write."""
    parser = argparse.ArgumentParser(prog="python -m measure.claims", description="Claims, held up to cases.")
    parser.add_argument("kind", choices=["runtime", "training"])
    parser.add_argument("validation", type=Path, help="labelled cases to score on")
    parser.add_argument("data", type=Path, nargs="?", help="labelled cases to train on")
    parser.add_argument("runs", type=Path, nargs="?", help="folder of the training runs")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    content: dict[str, Any] = {"created": now(), "machine": describe_machine()}
    if given.kind == "runtime":
        description = read_description(DEFAULT_MODEL)
        content["model"] = {"name": description.name, "sha256": model_hash(description)}
        content["claims"] = compared(runtime_pairs(measured(given.validation)))
    elif given.data is None or given.runs is None:
        parser.error("training takes VALIDATION DATA RUNS")
    else:
        found = trained(Settings(given.data, given.validation, given.runs, given.steps, given.seeds))
        content["claims"] = compared(training_pairs(found["ways"]))
        content["training"] = {**found, "ways": {name: _mean_scores(way) for name, way in found["ways"].items()}}
    write_json(RESULTS / f"{given.kind}-claims.json", content)


def _mean_scores(way: dict[str, Any]) -> dict[str, Any]:
    """Parameters that train; of each seed the mean DSC, and the mean over modalities."""
    means = {"dsc": [float(np.mean(list(seed.values()))) for seed in way["dsc"]]}
    return {"trainable": way["trainable"], **means, "dsc_of_modalities": [over_modalities(seed) for seed in way["dsc"]]}


def over_modalities(scores: Scores) -> float:
    """The unweighted mean over modalities of their cases' mean DSC, 0 to 1, as the challenge publishes it."""
    found: dict[str, list[float]] = {}
    for name, dsc in scores.items():
        found.setdefault(modality_of(name), []).append(dsc)
    return float(np.mean([np.mean(one) for one in found.values()]))


if __name__ == "__main__":
    main()
