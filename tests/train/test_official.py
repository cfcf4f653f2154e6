"""The public baseline as a program: what it encodes again and again, and what it writes."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from train.baseline import program as official  # noqa: E402
from train.baseline import runner  # noqa: E402
from train.networks.litemedsam import LiteMedSAM  # noqa: E402


def test_encoding_a_slice_again_for_every_box_changes_nothing_but_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two boxes of three slices each, of four: 6 times the encoder instead of 4, the same labels."""
    calls: list[int] = []

    def encode(network: object, images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return images

    def decode(network: object, embedding: torch.Tensor, box: np.ndarray) -> torch.Tensor:
        logits = torch.full((1, 1, 256, 256), -1.0)
        x_min, y_min, x_max, y_max = (int(v) for v in box)
        logits[..., y_min:y_max, x_min:x_max] = 1.0
        return logits

    monkeypatch.setattr(official, "encode", encode)
    monkeypatch.setattr(official, "decode", decode)
    volume = np.random.default_rng(0).integers(0, 256, (4, 64, 64), dtype=np.uint8)
    boxes = np.array([[4, 4, 0, 20, 20, 2], [30, 30, 1, 50, 50, 3]])
    once = official.segment_volume(LiteMedSAM, volume, boxes)
    assert len(calls) == 4
    again = official.segment_volume(LiteMedSAM, volume, boxes, encode_again=True)
    assert len(calls) == 4 + 6
    assert np.array_equal(once.labels, again.labels)
    assert sorted(np.unique(again.labels)) == [0, 1, 2]


def test_the_command_writes_what_the_baseline_writes(tmp_path: Path) -> None:
    """Key `segs` under the case's name; random weights where none are given."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    case = tmp_path / "2DBox_US_1.npz"
    np.savez(case, imgs=image, boxes=[[10, 10, 30, 30]])
    (tmp_path / "out").mkdir()
    command = runner.command(case, tmp_path / "out", SimpleNamespace(checkpoint=None))
    subprocess.run(command, check=True, timeout=120)
    segs = np.load(tmp_path / "out" / "2DBox_US_1.npz")["segs"]
    assert (segs.shape, segs.dtype) == ((40, 60), np.uint8)
