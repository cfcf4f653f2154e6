"""Whole runs on a few drawn pictures: they learn, resume as if never killed, and split over processes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from typer.testing import CliRunner

from edge.data.case import make_case, write_case
from edge.errors import CaseError, ModelError, RunError
from tests.conftest import Samedge
from tests.object_store import client, running_store
from train import loop
from train import plan as plan_module
from train.baseline.program import torch_threads
from train.commands.train import app
from train.data.batch import ViewBatch
from train.data.prepared import Prepared
from train.data.sampler import Batches
from train.loop import make_loader
from train.networks.adapter import load_merged, read_adapter, state_hash
from train.networks.checkpoint import read_checkpoint, save_atomically
from train.networks.litemedsam import PARAMETERS, LiteMedSAM
from train.recipe import load_recipe
from train.records.display import silent
from train.run import Outcome, Plan, _precision, train
from train.tasks.build import make_task
from train.tasks.views import ViewTask
from train.validation import CaseRow, Validation

# Views of 56 px alone, the paper's adapter: the same code at a fraction of the work.
SMALL = [
    "views={ 56 = 2 }", "walks={}", "epoch_samples=8", "precision=32-true", "validation_cases=0", "warmup_steps=0",
    "lora_rank=4", "lora_alpha=4", "trainable=lora", "train_beside=[]",
]  # fmt: skip
SHORT = [*SMALL, "max_steps=2", "ema=0"]
REPOSITORY = Path(__file__).parents[2]
SCRIPT = """
import json, sys
from pathlib import Path
if __name__ == "__main__":  # nothing is imported in the processes that prepare data
    from train.run import train
    train(sys.argv[1], [Path(sys.argv[2])], Path(sys.argv[3]), base=Path(sys.argv[4]), cache=Path(sys.argv[5]),
          accelerator="cpu", devices=int(sys.argv[6]), overrides=sys.argv[7:])
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of a bright disc on noise, three modalities."""
    folder = tmp_path_factory.mktemp("data")
    for number, modality in enumerate(["CT", "CT", "MR", "US", "US", "US"]):
        rng = np.random.default_rng(number)
        image = rng.integers(0, 80, (96, 96, 3), dtype=np.uint8)
        labels = np.zeros((96, 96), dtype=np.uint8)
        cv2.circle(labels, tuple(rng.integers(30, 66, 2).tolist()), 18, 1, -1)
        image[labels == 1] += 150
        cv2.imwrite(str(folder / f"2DBox_{modality}_Discs_{number}.png"), image)
        cv2.imwrite(str(folder / f"2DBox_{modality}_Discs_{number}_gt.png"), labels)
    return folder


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume of a bright ball, and a picture of a disc."""
    folder = tmp_path_factory.mktemp("volumes")
    grid = np.mgrid[:12, :64, :64] - np.array([6, 30, 34])[:, None, None, None]
    labels = (np.square(grid * np.array([2, 1, 1])[:, None, None, None]).sum(axis=0) < 120).astype(np.uint8)
    image = np.random.default_rng(0).integers(0, 80, labels.shape, dtype=np.uint8) + 150 * labels
    write_case(folder / "3DBox_CT_Balls_1.npz", make_case("3DBox_CT_Balls_1", image, np.zeros((0, 6)), truth=labels))
    picture = np.repeat(image[6][..., None], 3, axis=2)
    write_case(
        folder / "2DBox_US_Discs_1.npz", make_case("2DBox_US_Discs_1", picture, np.zeros((0, 4)), truth=labels[6])
    )
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.pth"
    torch.manual_seed(0)
    save_atomically({"model": LiteMedSAM().state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@dataclass(frozen=True)
class Finished:
    """A run of two steps by SHORT, and the prepared data it made."""

    outcome: Outcome
    folder: Path
    cache: Path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path, base: Path) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    run, cache = folder / "run", folder / "cache"
    outcome = train("litemedsam-lora", [data], run, base=base, cache=cache, overrides=SHORT)
    assert isinstance(outcome, Outcome)
    return Finished(outcome, run, cache)


def losses_of(run: Path) -> list[tuple[int, float]]:
    if not (run / "losses.csv").exists():
        return []
    with (run / "losses.csv").open(newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file) if row["lr"]]


def script_command(tmp_path: Path, *arguments: object) -> list[str]:
    script = tmp_path / "run_recipe.py"
    script.write_text(SCRIPT)
    return [sys.executable, str(script), *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "MASTER_PORT": "29517"}


def test_a_run_leaves_everything_that_explains_it(finished: Finished, data: Path, base: Path) -> None:
    """Recipe, seed, versions, hashes, losses, curves; an adapter that merges into its base."""
    folder, outcome = finished.folder, finished.outcome
    assert outcome.steps == 2
    run = json.loads((folder / "run.json").read_text())
    assert {"seed", "base_sha256", "adapter_sha256", "data_sha256", "machine", "packages", "plan"} <= set(run)
    assert run["packages"]["torch"] == metadata.version("torch")
    assert "max_steps = 2" in (folder / "recipe.toml").read_text()
    assert [step for step, _ in losses_of(folder)] == [1, 2]
    assert (folder / "curves.png").stat().st_size > 1000
    merged = load_merged(base, outcome.result)
    changed = [key for key, value in read_checkpoint(base).items() if not torch.equal(value, merged[key])]
    assert len(changed) == 40 and all(
        key.endswith(("qkv.weight", "proj.weight", "fc1.weight", "fc2.weight")) for key in changed
    )
    with pytest.raises(RunError, match="holds a run already"):
        train("litemedsam-lora", [data], folder, base=base, cache=finished.cache, overrides=SHORT)


def test_a_killed_run_resumes_with_identical_losses(tmp_path: Path, volumes: Path, base: Path, cache: Path) -> None:
    """kill -9 between two checkpoints, in the second epoch; walks, intensities, dropout, in the recipe's precision."""
    overrides = [*SMALL, "views={ 56 = 1 }", "walks={ 56 = 1 }", "epoch_samples=6", "precision=bf16-mixed"]
    overrides += ["max_steps=7", "save_every=3", "lr=1e-3", "lora_dropout=0.1", "intensity=0.9"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = {"cache": cache, "overrides": overrides, "accelerator": "cpu"}
    with torch_threads(1):  # as the other process has, whatever this one has
        train("litemedsam-lora", [volumes], whole, base=base, **settings)
    command = script_command(tmp_path, "litemedsam-lora", volumes, killed, base, cache, 1, *overrides)
    process = subprocess.Popen(command, env=environment())
    deadline = time.monotonic() + 240
    while len(losses_of(killed)) < 4 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 4 <= len(losses_of(killed)) < 7
    with pytest.raises(RunError, match="began with other base"):
        other = tmp_path / "other.pth"
        save_atomically({key: value * 1.01 for key, value in read_checkpoint(base).items()}, other)
        train("litemedsam-lora", [volumes], killed, base=other, resume=True, **settings)
    with pytest.raises(RunError, match=r"began with lr=0\.001, not 0\.002; resume with the same"):
        changed = {**settings, "overrides": [*overrides, "lr=2e-3"]}
        train("litemedsam-lora", [volumes], killed, base=base, resume=True, **changed)
    settings["overrides"] = [*overrides, "save_every=2"]
    with torch_threads(1):
        train("litemedsam-lora", [volumes], killed, base=base, resume=True, **settings)
    assert losses_of(killed) == losses_of(whole) and len(losses_of(whole)) == 7


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_twice_the_batch(
    tmp_path: Path, data: Path, base: Path, cache: Path
) -> None:
    """The adapters after three steps agree within rounding."""
    overrides = [*SMALL, "max_steps=3", "lr=1e-3", "epoch_samples=100", "intensity=0"]
    alone = {"overrides": [*overrides, "views={ 56 = 4 }"], "accelerator": "cpu"}
    train("litemedsam-lora", [data], tmp_path / "one", base=base, cache=cache, **alone)
    command = script_command(tmp_path, "litemedsam-lora", data, tmp_path / "two", base, cache, 2, *overrides)
    subprocess.run(command, env=environment(), check=True, timeout=300)  # its views are two, as SMALL says
    one, two = (load_merged(base, tmp_path / name / "adapter") for name in ("one", "two"))
    start = read_checkpoint(base)
    moved = max((one[key] - start[key]).abs().max().item() for key in start)
    apart = max((one[key] - two[key]).abs().max().item() for key in start)
    assert moved > 1e-4 and apart < 1e-3 * moved  # measured: 8e-4 and 2e-8


def test_all_parameters_train_and_the_loss_falls(tmp_path: Path, data: Path, base: Path, cache: Path) -> None:
    """The averaged weights come out in the public layout."""
    overrides = [*SMALL, "trainable=all", "max_steps=5", "intensity=0", "lr=3e-4"]
    lines: list[str] = []
    outcome = train(
        "litemedsam-lora", [data], tmp_path / "run", base=base, cache=cache, overrides=overrides, say=lines.append
    )
    assert isinstance(outcome, Outcome)
    assert sum(value.numel() for value in read_checkpoint(outcome.result).values()) > PARAMETERS
    losses = [loss for _, loss in losses_of(tmp_path / "run")]
    assert min(losses[2:]) < losses[0]
    assert lines and "samples/s" in lines[-1]


def test_an_adapter_is_gone_on_from(tmp_path: Path, finished: Finished, data: Path, base: Path) -> None:
    """By the command's option: at a rate of nearly nothing it comes out as it went in; resumed without it, refused."""
    first = finished.outcome.result
    options = ["--data", data, "--base", base, "--out", tmp_path / "second", "--adapter", first]
    command = ["litemedsam-lora", *SMALL, "max_steps=1", "lr=1e-12", "weight_decay=0", *map(str, options)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMEDGE_HOME", str(tmp_path / "home"))
        ran = CliRunner().invoke(app, command)
        assert ran.exit_code == 0, ran.output
        before, after = (read_adapter(adapter)[1] for adapter in (first, tmp_path / "second" / "adapter"))
        assert any(tensor.any() for name, tensor in before.items() if name.endswith("lora_B"))
        for name, tensor in before.items():
            torch.testing.assert_close(after[name], tensor, atol=1e-6, rtol=0)
        written = json.loads((tmp_path / "second" / "run.json").read_text())
        assert written["adapter_sha256"] == state_hash(before)
        for killed_early in (False, True):
            if killed_early:
                (tmp_path / "second" / "last.ckpt").unlink()
            without = [word for word in command if word not in ("--adapter", str(first))]
            refused = CliRunner().invoke(app, [*without, "--resume"])
            assert isinstance(refused.exception, RunError) and "began with other adapter" in str(refused.exception)


def test_an_adapter_for_a_training_without_one_is_refused(tmp_path: Path, data: Path, base: Path) -> None:
    """Before anything is prepared."""
    with pytest.raises(RunError, match="trainable=all has none"):
        train("litemedsam-lora", [data], tmp_path / "run", base=base, adapter=tmp_path, overrides=["trainable=all"])


def test_what_is_trained_on_views_is_validated_on_the_same_ladder(
    tmp_path: Path, data: Path, base: Path, cache: Path
) -> None:
    """What the encoder sees while it trains on 56 and 112 px and while it is validated: these, not the frame."""
    overrides = [*SMALL, "views={ 112 = 1, 56 = 1 }", "max_steps=1", "validation_cases=3"]
    sides: set[int] = set()
    made = LiteMedSAM.__init__

    def watched(network: LiteMedSAM) -> None:
        made(network)
        network.image_encoder.register_forward_pre_hook(lambda _module, given: sides.add(given[0].shape[-1]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LiteMedSAM, "__init__", watched)
        outcome = train(
            "litemedsam-lora", [data], tmp_path / "run", base=base, validation=data, cache=cache, overrides=overrides
        )
    assert isinstance(outcome, Outcome) and outcome.dsc is not None
    assert sides == {56, 112}


def test_validation_goes_through_the_runtime_and_the_best_is_kept(
    tmp_path: Path, data: Path, base: Path, cache: Path
) -> None:
    """DSC per modality after each validation, held-out cases only."""
    overrides = [*SMALL, "max_steps=2", "validate_every=2", "validation_cases=2"]
    outcome = train(
        "litemedsam-lora", [data], tmp_path / "run", base=base, cache=cache, overrides=overrides, validation=data
    )
    assert isinstance(outcome, Outcome) and outcome.dsc is not None and 0 <= outcome.dsc <= 1
    with (tmp_path / "run" / "validations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["modality"] for row in rows] == ["mean", "CT", "MR", "US"]
    assert float(rows[0]["dsc"]) == pytest.approx(sum(float(row["dsc"]) for row in rows[1:]) / 3, abs=1e-4)


def test_a_run_stops_early_where_validation_stands_still_and_stays_stopped(
    tmp_path: Path, data: Path, base: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.5, 0.6, 0.6, 0.4 with a patience of two: over after step 4, also when resumed; the best is 0.6."""
    scores = iter([0.5, 0.6, 0.6, 0.4])
    monkeypatch.setattr(ViewTask, "validate", lambda *_: Validation(next(scores), {}, 1, (CaseRow("a", "CT", {}),)))
    overrides = [*SMALL, "max_steps=50", "validate_every=1", "validation_cases=1", "early_stop=2", "views={ 56 = 1 }"]
    settings = {"base": base, "cache": cache, "overrides": overrides, "validation": data}
    for resume in (False, True):
        outcome = train("litemedsam-lora", [data], tmp_path / "run", resume=resume, **settings)
        assert isinstance(outcome, Outcome) and (outcome.steps, outcome.dsc) == (4, 0.6)


def test_a_run_without_validation_never_stops_early(tmp_path: Path, data: Path, base: Path, cache: Path) -> None:
    """There is no score that could stand still; the last weights are kept."""
    overrides = [*SMALL, "max_steps=3", "validate_every=1", "validation_cases=0", "early_stop=1", "views={ 56 = 1 }"]
    outcome = train("litemedsam-lora", [data], tmp_path / "run", base=base, cache=cache, overrides=overrides)
    assert isinstance(outcome, Outcome) and (outcome.steps, outcome.dsc) == (3, None)


def test_a_dry_run_prints_the_papers_counts_and_writes_no_run(
    tmp_path: Path, data: Path, base: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """9,791,300 + 118,784 parameters; modalities and their shares; loading with and without a worker; a step timed."""
    monkeypatch.setattr(plan_module, "TIMED_S", 0.1)
    monkeypatch.setattr(plan_module, "TIMED_WORKERS", (0, 1))
    plan = train(
        "litemedsam-lora",
        [data],
        tmp_path / "run",
        base=base,
        cache=cache,
        overrides=[*SMALL, "max_steps=5"],
        dry_run=True,
    )
    assert isinstance(plan, Plan)
    assert (plan.parameters, plan.trainable) == (9_791_300 + 118_784, 118_784)
    assert plan.cases == {"CT": 2, "MR": 1, "US": 3} and sum(plan.shares.values()) == pytest.approx(1)
    assert plan.steps == 5 and plan.samples == 10 and plan.estimate is not None
    assert plan.estimate.step_s > 0 and plan.estimate.memory_mib > 100
    assert set(plan.estimate.samples_per_s) == {0, 1} and min(plan.estimate.samples_per_s.values()) > 0
    assert not (tmp_path / "run").exists()


def test_an_estimate_is_scaled_from_two_samples_of_each_kind_to_the_batch(
    volumes: Path, base: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: 1 s and 100 MiB over 400 for 2 of 6 views of 56 px, for the one of 112 and the one of two steps.

    3 + 1 + 1 s; 300 + 100 + 100 MiB over what there was, and Adam's two numbers a parameter and their average's one.
    """
    seen: list[tuple[int, int, bool]] = []

    def measured(_: object, batch: ViewBatch, __: object) -> tuple[float, float, float]:
        (group,) = batch.groups
        seen.append((len(group.pixels), group.pixels.shape[-1], group.next_slice is not None))
        return 1.0, 400.0, 500.0

    monkeypatch.setattr(plan_module, "TIMED_WORKERS", ())
    monkeypatch.setattr(plan_module, "_measure_step", measured)
    monkeypatch.setattr(plan_module, "_memory_mib", lambda _: 400.0)
    overrides = [*SMALL, "views={ 56 = 6, 112 = 1 }", "walks={ 56 = 1 }", "max_steps=1"]
    plan = train("litemedsam-lora", [volumes], volumes, base=base, cache=cache, overrides=overrides, dry_run=True)
    assert isinstance(plan, Plan) and plan.estimate is not None
    assert seen == [(2, 56, False), (1, 112, False), (1, 56, True)] and plan.estimate.samples == 4
    assert plan.estimate.step_s == 5.0
    assert plan.estimate.memory_mib == pytest.approx(900 + 3 * 4 * 118_784 / 2**20)


def test_prepared_data_carried_elsewhere_trains_alike(
    tmp_path: Path, finished: Finished, data: Path, base: Path
) -> None:
    """Its folder as the data: the same losses; other data beside it, or nothing to validate: errors."""
    carried = shutil.copytree(next(finished.cache.iterdir()), tmp_path / "carried")
    train("litemedsam-lora", [carried], tmp_path / "there", base=base, cache=tmp_path / "none", overrides=SHORT)
    assert losses_of(tmp_path / "there") == losses_of(finished.folder) and not (tmp_path / "none").exists()
    for folders, more, message in (
        ([carried, data], [], "goes with no other --data"),
        ([carried], ["validation_cases=1"], "give --val or validation_cases=0"),
    ):
        with pytest.raises(RunError, match=message):
            train("litemedsam-lora", folders, tmp_path / "no", base=base, overrides=[*SMALL, *more])


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_cpu_that_is_slow_in_bfloat16_computes_in_float32_and_says_so(
    tmp_path: Path, finished: Finished, data: Path, base: Path, monkeypatch: pytest.MonkeyPatch, has_bf16: bool
) -> None:
    """Emulated it would take many times as long; the losses are then those of float32, else they are not."""
    monkeypatch.setattr("train.run.has_fast_bf16", lambda: has_bf16)
    said: list[str] = []
    overrides = [*SHORT, "precision=bf16-mixed"]
    train(
        "litemedsam-lora",
        [data],
        tmp_path / "run",
        base=base,
        cache=finished.cache,
        overrides=overrides,
        accelerator="cpu",
        say=said.append,
    )
    told = [line for line in said if line.startswith("precision: 32-true")]
    assert bool(told) is not has_bf16
    assert (losses_of(tmp_path / "run") == losses_of(finished.folder)) is not has_bf16


@pytest.mark.parametrize(
    ("asked", "accelerator", "fast", "expected"),
    [
        ("bf16-mixed", "cpu", False, "32-true"),
        ("bf16-mixed", "cpu", True, "bf16-mixed"),
        ("bf16-mixed", "auto", False, "bf16-mixed"),
        ("16-mixed", "cpu", False, "16-mixed"),
    ],
)
def test_only_bfloat16_on_a_cpu_that_is_slow_in_it_is_replaced(
    monkeypatch: pytest.MonkeyPatch, asked: str, accelerator: str, fast: bool, expected: str
) -> None:
    """On a machine with a GPU, made up, that is used unless a CPU is asked for."""
    monkeypatch.setattr("train.run.has_fast_bf16", lambda: fast)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    assert _precision(load_recipe("litemedsam-lora", [f"precision={asked}"]), accelerator) == expected


def test_data_that_cannot_be_read_any_more_costs_no_step(
    tmp_path: Path, finished: Finished, data: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first step: it is saved, the error says how to go on, and that gives the same losses."""
    read, reads = Prepared.slice, iter(range(100))

    def until_it_is_gone(prepared: Prepared, case: int, z: int) -> object:
        if next(reads) == 3:  # of the second step's two samples
            raise CaseError("s3://gone/pixels.u8 cannot be used; check the network")
        return read(prepared, case, z)

    monkeypatch.setattr(Prepared, "slice", until_it_is_gone)
    settings = {"base": base, "cache": finished.cache, "overrides": [*SHORT, "workers=0"]}
    with pytest.raises(CaseError, match="check the network; then go on with --resume"):
        train("litemedsam-lora", [data], tmp_path / "run", **settings)
    assert len(losses_of(tmp_path / "run")) == 1
    train("litemedsam-lora", [data], tmp_path / "run", resume=True, **settings)
    assert losses_of(tmp_path / "run") == losses_of(finished.folder)


def test_an_error_of_a_worker_is_told_without_its_traceback() -> None:
    """As torch hands it on; after what was done is saved."""

    class Gone(Dataset):
        def __getitem__(self, position: int) -> int:
            raise CaseError(f"sample {position} cannot be read")

    saved: list[bool] = []
    loader = DataLoader(Gone(), batch_sampler=[[5]], num_workers=1, multiprocessing_context="fork")
    with pytest.raises(CaseError) as told:
        list(loop.read_batches(loader, lambda: saved.append(True)))
    assert str(told.value) == "sample 5 cannot be read; then go on with --resume" and saved == [True]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of aiobotocore's own
def test_prepared_data_in_an_object_store_trains_alike(
    tmp_path: Path, finished: Finished, base: Path, samedge: Samedge, samedge_environment: dict[str, str]
) -> None:
    """Read by two workers, nothing of it kept on a disk: the same losses; what is not there is named."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    with running_store() as known:
        environment = {**samedge_environment, **known, "SAMEDGE_HOME": str(tmp_path / "home"), "PYTHONWARNINGS": ""}
        store = client(known)
        store.mkdir("training")
        store.put(f"{next(finished.cache.iterdir())}/", "training/set/", recursive=True)

        def run(address: str, out: Path) -> subprocess.CompletedProcess[str]:
            command = ("train", "litemedsam-lora", *SHORT, "workers=2", "--base", base, "--data", address, "--out", out)
            return samedge(*command, env=environment)

        there, missing = run("s3://training/set", tmp_path / "there"), run("s3://training/none", tmp_path / "no")
    assert there.returncode == 0, there.stderr
    assert "prepared data: s3://training/set" in there.stderr
    assert losses_of(tmp_path / "there") == losses_of(finished.folder)
    assert not any(file.suffix in (".u8", ".u16") for file in (tmp_path / "home").rglob("*"))
    assert missing.returncode == 1 and "error: s3://training/none" in missing.stderr
    assert "does not exist" in missing.stderr and "Traceback" not in missing.stderr


def test_processes_that_prepare_samples_give_the_same_batches(volumes: Path, cache: Path) -> None:
    """Two of them, or none."""
    recipe = load_recipe("litemedsam-lora", [*SMALL, "walks={ 56 = 1 }"])
    task = make_task(recipe, [volumes], None, cache, None, silent)
    batches = list(Batches(draws=12, batch=3))
    here, there = (list(make_loader(task, 1, batches, workers)) for workers in (0, 2))
    assert len(here) == len(there) == 4
    for one, other in zip(here, there, strict=True):
        assert len(one.groups) == len(other.groups) == 2
        for mine, its in zip(one.groups, other.groups, strict=True):
            pairs = zip(vars(mine).values(), vars(its).values(), strict=True)
            assert all(a is b is None or torch.equal(a, b) for a, b in pairs)


def test_predictions_are_prepared_with_their_volumes_and_go_with_nothing_else(
    tmp_path: Path, volumes: Path, cache: Path
) -> None:
    """How many there are is said; prepared data and recipes without walks are refused with them."""
    case, said = next(volumes.glob("3D*.npz")), []
    (tmp_path / "own").mkdir()
    np.savez(tmp_path / "own" / case.name, segs=np.load(case)["gts"])
    given = {"predicted": tmp_path / "own"}
    task = make_task(load_recipe("litemedsam-lora", SMALL), [volumes], None, cache, None, said.append, **given)
    assert "predictions: of 1 of 1 volumes" in said and task._data.with_predicted == 1
    with pytest.raises(RunError, match="prepared data takes no --predicted"):
        make_task(load_recipe("litemedsam-lora", SMALL), [task._data.folder], None, cache, None, silent, **given)
    with pytest.raises(RunError, match="predictions are for recipes that train on walks"):
        make_task(load_recipe("nuinsseg-sam-vit-b"), [volumes], None, cache, None, silent, **given)


def test_a_run_goes_on_with_the_cases_and_the_devices_it_began_with(
    tmp_path: Path, finished: Finished, data: Path, base: Path
) -> None:
    """Not with those that were held out, which it would be scored on; nor with steps of another size."""
    settings = {"base": base, "cache": finished.cache, "resume": True}
    overrides = [*SMALL, "hold_out=0.5", "validation_cases=6"]
    held, all_of_them = (
        make_task(load_recipe("litemedsam-lora", [*overrides, *more]), [data], None, finished.cache, None, silent)
        for more in ([], ["validation_cases=0"])
    )
    assert held.facts.sha256 != all_of_them.facts.sha256
    run = shutil.copytree(finished.folder, tmp_path / "run")
    said = json.loads((run / "run.json").read_text())
    said["plan"]["samples"] *= 2
    (run / "run.json").write_text(json.dumps(said))
    with pytest.raises(RunError, match="the run began with 4 samples a step, not 2; resume with as many --devices"):
        train("litemedsam-lora", [data], run, overrides=SHORT, **settings)


def test_the_cases_of_validation_and_of_data_sets_that_are_left_out_do_not_train(data: Path, cache: Path) -> None:
    """Half of six held out; one data set only, or all but one."""
    overrides = [*SMALL, "validation_cases=6", "hold_out=0.5"]
    task = make_task(load_recipe("litemedsam-lora", overrides), [data], None, cache, None, silent)
    trained = {entry.name for entry in task._data.used}
    held = set(task._cases)
    assert held and trained and not held & trained and len(held) + len(trained) == 6
    with pytest.raises(RunError, match="leave no data set"):
        make_task(load_recipe("litemedsam-lora", [*SMALL, 'leave_out=["Discs"]']), [data], None, cache, None, silent)


def test_a_run_killed_before_its_first_checkpoint_starts_again(
    tmp_path: Path, finished: Finished, data: Path, base: Path
) -> None:
    """With --resume, as what there is of it says; the losses of the lost steps are not kept twice."""
    run = shutil.copytree(finished.folder, tmp_path / "run")
    (run / "last.ckpt").unlink()
    resumed = train("litemedsam-lora", [data], run, base=base, cache=finished.cache, overrides=SHORT, resume=True)
    assert isinstance(resumed, Outcome) and resumed.steps == 2
    assert losses_of(run) == losses_of(finished.folder)


def test_a_damaged_checkpoint_is_said_in_a_line(tmp_path: Path, finished: Finished, data: Path, base: Path) -> None:
    """Cut short, as by a copy that was broken off."""
    run = shutil.copytree(finished.folder, tmp_path / "run")
    whole = (run / "last.ckpt").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"PK\x03\x04" + bytes(100), b"\x80\x02c__builtin__\neval\n."):
        (run / "last.ckpt").write_bytes(content)
        with pytest.raises(ModelError, match=r"last\.ckpt: (cannot be read as|not) a checkpoint"):
            train("litemedsam-lora", [data], run, base=base, cache=finished.cache, overrides=SHORT, resume=True)
    torch.save({"weights": torch.zeros(1)}, run / "last.ckpt")
    with pytest.raises(RunError, match=r"last\.ckpt: not a run's checkpoint"):
        train("litemedsam-lora", [data], run, base=base, cache=finished.cache, overrides=SHORT, resume=True)


def test_a_long_step_is_saved_before_save_every(
    tmp_path: Path, data: Path, base: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that take longer than SAVE_S: a kill loses one."""
    monkeypatch.setattr(loop, "SAVE_S", 0.0)
    monkeypatch.setattr(loop, "SHOW_S", 0.0)
    saved: list[bool] = []

    def advance(what: str, done: int, total: int, note: str) -> None:
        saved.append((tmp_path / "run" / "last.ckpt").exists())

    overrides = [*SMALL, "max_steps=2", "save_every=500"]
    settings = {"base": base, "cache": cache, "overrides": overrides, "advance": advance}
    train("litemedsam-lora", [data], tmp_path / "run", **settings)
    assert saved[-2:] == [False, True]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (['only=["Dics"]'], "only: no case of Dics; there are Discs"),
        (["walks={ 56 = 1 }"], "walks: no case that trains is a volume to walk through; set walks={}"),
        (["lr=1e30", "max_steps=8", "schedule=constant"], "the loss is"),
    ],
)
def test_what_cannot_work_ends_in_one_line(
    tmp_path: Path, data: Path, base: Path, cache: Path, overrides: list[str], message: str
) -> None:
    """A data set that is not there; a rate at which the loss is no number."""
    with pytest.raises(RunError, match=message):
        train("litemedsam-lora", [data], tmp_path / "run", base=base, cache=cache, overrides=[*SMALL, *overrides])


def test_an_adapter_needs_a_base(tmp_path: Path, data: Path) -> None:
    """Random weights are nothing to adapt."""
    with pytest.raises(RunError, match="--base"):
        train("litemedsam-lora", [data], tmp_path / "run")
