"""How many samples a second are ready to be trained on, by kind: `python -m measure.loading DATA`."""

import argparse
from pathlib import Path
from typing import Any

from edge.reports.report import now, print_rows, write_json
from edge.system.home import home
from edge.system.machine import describe_machine

BATCH = 16
WORKERS = (0, 2)  # 0: the process itself
TIMED_S = 8.0  # for each kind and number of workers
KINDS = {  # title -> views and walks of the recipe
    **{f"view of {size} px": (f"views={{ {size} = {BATCH} }}", "walks={}") for size in (56, 112, 224)},
    **{f"walk in views of {size} px": ("views={}", f"walks={{ {size} = {BATCH} }}") for size in (56, 112)},
}


def measure(data: Path, cache: Path) -> list[dict[str, Any]]:
    """Samples a second of each kind, batched, by the process itself and by workers.

    Args:
        data: folder of labelled cases, volumes among them, or of prepared data.
        cache: where prepared data lies.
    """
    from train.plan import loading_rate  # torch: the documentation's tables do without
    from train.recipe import load_recipe
    from train.records.display import lines, silent
    from train.tasks.views import make_view_task

    kinds = []
    for title, overrides in KINDS.items():
        recipe = load_recipe("litemedsam-lora", [*overrides, "validation_cases=0"])
        task = make_view_task(recipe, [data], None, cache, silent, lines(silent))
        rates = [loading_rate(task, BATCH, workers, TIMED_S) for workers in WORKERS]
        kinds.append({"kind": title, "samples_per_s": rates})
    return kinds


def loading_table(report: dict[str, Any]) -> list[list[str]]:
    """Rows of texts of what `main` wrote, header first."""
    by = [f"samples/s by {workers} workers" if workers else "samples/s, no workers" for workers in report["workers"]]
    return [
        ["sample", *by],
        *([kind["kind"], *map("{:.0f}".format, kind["samples_per_s"])] for kind in report["kinds"]),
    ]


def main() -> None:
    """Print, write."""
    parser = argparse.ArgumentParser(prog="python -m measure.loading", description="Samples a second.")
    parser.add_argument("data", type=Path, help="folder of labelled cases, or of prepared data")
    parser.add_argument("--json", type=Path, help="write what was measured here")
    chosen = parser.parse_args()
    kinds = measure(chosen.data, home() / "training")
    report = {"created": now(), "machine": describe_machine(), "cases": [], "workers": WORKERS, "kinds": kinds}
    print_rows(loading_table(report))
    if chosen.json:
        write_json(chosen.json, report)


if __name__ == "__main__":
    main()
