"""The systems from end to end on real data, through the commands alone: train by folds, report, export, predict.

`make systems-test`, not part of `make test`: about 25 CPU minutes. The networks start from random weights, see 256 px
and, of SAM's encoder, have one block; what is asked of them is that they learn, not that they are good.
"""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import nibabel
import numpy as np
import numpy.typing as npt
import pytest

from edge.data.phantom import make_phantom
from edge.scoring.score import dice

SEED = int(os.environ.get("SEED", "2027"))  # of weights and folds; the settings were chosen with seed 0
RISE = 0.2  # of validation Dice over its start, in each fold
TRIAL = [
    f"seed={SEED}", "image_size=256", "precision=32-true", "schedule=constant", "warmup_steps=20", "workers=0",
    "validate_at_start=true",
]  # fmt: skip
NUCLEI = ['only=["NuInsSegOesoWarp", "DSB2018"]', "validation_cases=1000"]
OUTSIDE_THE_TRANSFORMER = [
    "prompt_encoder", "mask_decoder.iou_token", "mask_decoder.mask_tokens", "mask_decoder.output_upscaling",
    "mask_decoder.output_hypernetworks_mlps", "mask_decoder.iou_prediction_head",
]  # fmt: skip
SETTINGS = {
    "nuinsseg-sam-vit-b": [
        *NUCLEI, "normalisation=medsam", "encoder_blocks=1", "lora_blocks=[0]", "batch=4", "lr=1e-3", "max_steps=300",
        "validate_every=150", "equalise=0", "colour_jitter=0", "rotation_rad=0", "resized_crop=0", "flip=0.5",
    ],
    # a fresh TinyViT whose batch norms keep no statistics lets the image fade (standard deviation 0.19 after the
    # patches, 0.004 two stages on), and no head can read it: the encoder trains in full beside its adapters
    "nuinsseg-mobilesam": [
        *NUCLEI, "normalisation=medsam", 'train_beside=["semantic_head", "image_encoder"]', "batch=4", "lr=2e-3",
        "decoder_lr_share=5", "max_steps=100", "validate_every=50",
    ],
    # from random weights the adapters alone learn nothing: the decoder's ends train beside them, as in the first
    "brats-sam-vit-b": [
        "encoder_blocks=1", f"train_beside={json.dumps(OUTSIDE_THE_TRANSFORMER)}",
        'lora_decoder_targets=["q_proj", "v_proj"]', "slices=random", "batch=2", "lr=1e-3", "max_steps=100",
        "validate_every=50", "validation_cases=24",  # 4 slices a subject: the two real ones have most of the slices
    ],
}  # fmt: skip
SEQUENCES = {"t1n": (1.0, -60.0), "t1c": (0.9, 50.0), "t2f": (-0.5, 110.0), "t2w": (-0.7, 70.0)}  # contrast, tumour

Samedge = Callable[..., CompletedProcess[str]]


@pytest.fixture
def samedge_for_long(samedge: Samedge, samedge_environment: dict[str, str]) -> Samedge:
    """The command without a limit of time, where a library's warning is none of ours."""

    def run(*arguments: object) -> CompletedProcess[str]:
        environment = {**samedge_environment, "PYTHONWARNINGS": "default"}
        done = samedge(*arguments, env=environment, timeout=None)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    return run


@pytest.mark.parametrize("name", ["nuinsseg-sam-vit-b", "nuinsseg-mobilesam"])
def test_nuclei_are_learned_exported_and_found(
    tmp_path: Path, shared: Path, samedge_for_long: Samedge, name: str
) -> None:
    """Dice rises by 0.2 in both folds; `predict` finds on pictures what the report says of them."""
    data, out = shared / "data" / "train", tmp_path / "run"
    samedge_for_long("train", name, "--data", data, "--folds", 2, "--out", out, *TRIAL, *SETTINGS[name])
    check_rise(name, out)
    assert [row["fold"] for row in rows_of(out / "folds.csv")] == ["0", "1", "mean", "spread", "paper"]
    assert {row["group"] for row in rows_of(out / "groups.csv")} <= {"DSB2018", "NuInsSegOesoWarp"}
    model = export(samedge_for_long, out, tmp_path)
    reported = {row["case"]: float(row["dice"]) for row in rows_of(out / "fold-0" / "best_cases.csv")}
    (tmp_path / "pictures").mkdir()
    for case in reported:
        shutil.copy(data / f"{case}.jpg", tmp_path / "pictures")
    samedge_for_long("predict", tmp_path / "pictures", tmp_path / "found", "--model", model, "--precision", "f32")
    found = {case: found_dice(data, tmp_path / "found", case) for case in reported}
    print(f"{name}: {np.mean(list(found.values())):.3f} by predict on the {len(found)} pictures of fold 0")
    assert found == pytest.approx(reported, abs=0.03)  # bilinear twice, by way of 256 px, where training does it once


def test_tumours_are_learned_exported_and_found(tmp_path: Path, shared: Path, samedge_for_long: Samedge) -> None:
    """Two real subjects and ten phantoms: Dice rises by 0.2 in both folds; one sequence with a box is a case."""
    out, phantoms = tmp_path / "run", tmp_path / "phantoms"
    tumours = [write_subject(phantoms, f"phantom-{number:02d}", number) for number in range(10)]
    name = "brats-sam-vit-b"
    folders = ["--data", shared / "data" / "multiseq", "--data", phantoms]
    samedge_for_long("train", name, *folders, "--folds", 2, "--out", out, *TRIAL, *SETTINGS[name])
    check_rise(name, out)
    assert len(rows_of(out / "groups.csv")) == 12
    model = export(samedge_for_long, out, tmp_path)
    image, tumour = tumours[0]
    rows, columns = np.nonzero(tumour)
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "flair.png"), image)
    box = (columns.min(), rows.min(), columns.max(), rows.max())
    (tmp_path / "pictures" / "flair.csv").write_text(",".join(map(str, box)))
    samedge_for_long("predict", tmp_path / "pictures", tmp_path / "found", "--model", model)
    labels = cv2.imread(str(tmp_path / "found" / "flair_labels.png"), cv2.IMREAD_UNCHANGED)
    print(f"{name}: {dice(tumour, labels > 0):.3f} by predict on one sequence of a phantom")
    assert dice(tumour, labels > 0) > 0.4


def check_rise(name: str, out: Path) -> None:
    """Print and check where each fold began and ended."""
    for fold in range(2):
        curve = [row for row in rows_of(out / f"fold-{fold}" / "validations.csv") if row["modality"] == "mean"]
        scores = [float(row["dsc"]) for row in curve]
        print(f"{name}, fold {fold}: validation Dice {scores[0]:.3f} at the start, best {max(scores):.3f}")
        assert curve[0]["step"] == "0" and max(scores) - scores[0] >= RISE
    assert all((out / picture).stat().st_size > 1000 for picture in ("folds.png", "folds_curves.png"))


def export(samedge: Samedge, out: Path, folder: Path) -> Path:
    """The model folder of fold 0."""
    fold = out / "fold-0"
    samedge("export", fold / "base.pth", folder / "model", "--adapter", fold / "adapter")
    return folder / "model"


def found_dice(data: Path, found: Path, case: str) -> float:
    truth = cv2.imread(str(data / f"{case}_gt.png"), cv2.IMREAD_UNCHANGED)
    return dice(truth > 0, cv2.imread(str(found / f"{case}_labels.png"), cv2.IMREAD_UNCHANGED) > 0)


def write_subject(folder: Path, name: str, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """A phantom's head with a tumour in four sequences, as NIfTI; its largest slice in T2-FLAIR, and the tumour there.

    Each sequence has its own contrast of the tissue, and its own brightness of the tumour.
    """
    case = make_phantom(f"3DBox_MR_{name}", (12, 112, 96), 1, seed)
    head, tumour = case.image.astype(np.float32), np.asarray(case.truth) > 0
    folder.mkdir(exist_ok=True)
    volumes = {"seg": tumour.astype(np.uint8)}
    for sequence, (contrast, glow) in SEQUENCES.items():
        tissue = head if contrast > 0 else np.where(head > 20, 200 - head, 0)
        volumes[sequence] = np.clip(abs(contrast) * tissue + glow * tumour, 0, 255).astype(np.uint8)
    for sequence, volume in volumes.items():  # (D, H, W) of a head seen from below -> x, y, z from left, back and foot
        turned = np.ascontiguousarray(volume[:, ::-1, ::-1].transpose(2, 1, 0))
        nibabel.save(nibabel.Nifti1Image(turned, np.diag([1.2, 1.2, 3.0, 1.0])), folder / f"{name}-{sequence}.nii.gz")
    largest = int(tumour.sum(axis=(1, 2)).argmax())
    return volumes["t2f"][largest], tumour[largest]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
