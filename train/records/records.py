"""What a run leaves behind to look at: losses and validations as CSV, as TensorBoard events, as curves in a PNG.

At Weights & Biases too, where the recipe asks for it.
"""

import csv
import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge.data.files import partial_path
from edge.errors import RunError
from train.recipe import Recipe
from train.validation import Validation

LOSSES, VALIDATIONS, METRICS, CURVES = "losses.csv", "validations.csv", "metrics.csv", "curves.png"
WANDB_ID = "wandb.id"  # of the run there, so that a resumed run goes on with it


class Records:
    """Appends to the run's files; after a resume, rows from beyond the checkpoint are dropped first."""

    def __init__(self, out: Path, step: int, recipe: Recipe) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._out = out
        for name in (LOSSES, VALIDATIONS, METRICS):
            _drop_rows_after(out / name, step)
        self._board = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
        self._wandb = _wandb_run(out, recipe) if recipe.wandb else None

    def loss(self, step: int, loss: float, lr: float) -> None:
        """One optimiser step."""
        _append(self._out / LOSSES, {"step": step, "loss": repr(loss), "lr": repr(lr)})
        self._log(step, {"loss": loss, "lr": lr})

    def validation(self, step: int, validation: Validation) -> None:
        """One validation."""
        for modality, dsc in {"mean": validation.dsc, **validation.by_modality}.items():
            _append(self._out / VALIDATIONS, {"step": step, "modality": modality, "dsc": f"{dsc:.4f}"})
            self._log(step, {f"dsc/{modality}": dsc})
        for metric, value in validation.means().items():
            if metric != "dice":
                _append(self._out / METRICS, {"step": step, "metric": metric, "mean": f"{value:.4f}"})
                self._log(step, {f"metric/{metric}": value})

    def show(self) -> None:
        """Bring the curves and the TensorBoard events up to date."""
        self._board.flush()
        draw_curves(self._out)

    def _log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._wandb is not None:
            self._wandb.log({"step": step, **values})


def check_wandb(recipe: Recipe) -> None:
    """Raises: RunError: the recipe asks for Weights & Biases, and its package is not there."""
    if recipe.wandb and importlib.util.find_spec("wandb") is None:
        raise RunError(f"wandb={recipe.wandb} needs a package: pip install wandb, or leave the key out")


def _wandb_run(out: Path, recipe: Recipe) -> Any:
    """The run's twin at Weights & Biases; its own step counter only grows, so curves are over ours."""
    import wandb

    known = out / WANDB_ID
    run_id = known.read_text(encoding="utf-8") if known.exists() else None
    run = wandb.init(
        project=recipe.wandb, name=out.name, id=run_id, resume="allow", dir=str(out), config=asdict(recipe)
    )
    run.define_metric("*", step_metric="step")
    known.write_text(run.id, encoding="utf-8")
    return run


def draw_curves(out: Path) -> None:
    """`curves.png` from the run's CSV files: the loss, and the validation DSC of each modality."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    losses = [(int(row["step"]), float(row["loss"])) for row in _rows(out / LOSSES)]
    if losses:
        left.plot(*zip(*losses, strict=True), linewidth=0.3, color="tab:blue")
        left.plot(*zip(*_smoothed(losses), strict=True), color="tab:blue")
    left.set(xlabel="step", ylabel="loss")
    curves: dict[str, list[tuple[int, float]]] = {}
    for row in _rows(out / VALIDATIONS):
        curves.setdefault(row["modality"], []).append((int(row["step"]), float(row["dsc"])))
    for modality, points in curves.items():
        style = {"color": "black", "linewidth": 2} if modality == "mean" else {"linewidth": 1}
        right.plot(*zip(*points, strict=True), marker=".", label=modality, **style)
    others: dict[str, list[tuple[int, float]]] = {}
    for row in _rows(out / METRICS):
        others.setdefault(row["metric"], []).append((int(row["step"]), float(row["mean"])))
    for metric, points in others.items():
        right.plot(*zip(*points, strict=True), linestyle="--", label=metric)
    right.set(xlabel="step", ylabel="validation DSC" + (", other means" if others else ""))
    if curves:
        right.legend(fontsize="small", ncols=2)
    figure.savefig(out / CURVES, dpi=110)


def _smoothed(points: list[tuple[int, float]], keep: float = 0.98) -> list[tuple[int, float]]:
    mean, smooth = points[0][1], []
    for step, value in points:
        mean = keep * mean + (1 - keep) * value
        smooth.append((step, mean))
    return smooth


def _append(path: Path, row: dict[str, object]) -> None:
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, row)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _drop_rows_after(path: Path, step: int) -> None:
    rows = _rows(path)
    kept = [
        row for row in rows if (row["step"] or "").isdigit() and int(row["step"]) <= step and None not in row.values()
    ]
    fresh = partial_path(path)  # whole in its place, or the old one stays
    for row in kept:
        _append(fresh, dict(row))
    if kept:
        fresh.replace(path)
    else:
        path.unlink(missing_ok=True)
